"""Hear the rings that were sent to this process, and those sent to whom it took shards from.

A look that was asked for may last longer than this process: its ring stays, under our name, until the look was had.
So whoever takes the shard from us finds it, whether it was given back or we were killed.
"""

from collections.abc import Callable, Collection

import anyio
import structlog
from anyio.abc import TaskStatus

from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.ownership import UNOWNED, Lease
from bg_ingest.errors import StoreError
from bg_ingest.store.inbox import InboxStore, OwnerRequest, RequestKind
from workers.relay import RelayActor
from workers.scheduler import Scheduler
from workers.wakeup import Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

INHERIT_SECONDS = 20.0
"""Seconds for which rings to a shard's previous owner are read: longer than any process believes an old look."""


class InboxReader:
    """An actor that turns rings into looks and tellings here; one for a shard we gave away is sent on."""

    def __init__(
        self,
        requests: InboxStore,
        scheduler: Scheduler,
        relay: RelayActor,
        *,
        owner_id: Callable[[], str | None],
        epoch: Callable[[int], int | None],
        is_loaded: Callable[[int], bool],
        interval: float,
    ) -> None:
        """``epoch`` is that of a shard which is ours; ``seated`` tells whether its connections have their seats."""
        self._inbox = requests
        self._scheduler = scheduler
        self._relay = relay
        self._owner_id = owner_id
        self._epoch = epoch
        self._is_loaded = is_loaded
        self._interval = interval
        self._inherited: dict[str, float] = {}
        self._last_owner_id: str | None = None
        self._former: dict[str, float] = {}
        self._pending: dict[ConnectionId, OwnerRequest] = {}
        self._done: set[OwnerRequest] = set()
        self._wakeup = Wakeup()
        self._unreadable = False

    def wake(self) -> None:
        """Take the hint that a ring was just sent to us."""
        self._wakeup.set()

    def inherit(self, taken: Collection[Lease]) -> None:
        """Read also what is sent to the previous owners of these shards, for a while."""
        shards = {each.shard for each in taken}
        self._forget_shards(lambda shard: shard in shards)  # what was asked of their seats before went with these
        until = anyio.current_time() + INHERIT_SECONDS
        self._inherited |= {each.previous or UNOWNED: until for each in taken}
        self._wakeup.set()

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read rings until cancelled."""
        task_status.started()
        while True:
            seconds = 1.0 if self._inherited else self._interval
            await self._wakeup.wait(min(seconds, self._interval))
            try:
                await self._read_all()
            except StoreError:
                if not self._unreadable:
                    log.warning("cannot read rings", action="inbox_unreadable")
                self._unreadable = True
            else:
                if self._unreadable:
                    log.info("reads rings again", action="inbox_readable")
                self._unreadable = False

    def poll_finished(self, connection: ConnectionId) -> None:
        """Be told whose look was had: its ring is forgotten at the next reading."""
        if request := self._pending.pop(connection, None):
            self._done.add(request)

    async def _read_all(self) -> None:
        now, owner_id = anyio.current_time(), self._owner_id()
        if (
            self._last_owner_id and owner_id != self._last_owner_id
        ):  # we were taken for dead, and may have been rung at since
            self._former[self._last_owner_id] = now + INHERIT_SECONDS
        self._last_owner_id = owner_id
        self._former = {each: until for each, until in self._former.items() if until > now}
        self._inherited = {each: until for each, until in self._inherited.items() if until > now}
        self._forget_shards(lambda shard: self._epoch(shard) is None)
        if owner_id is not None:
            requests = await self._inbox.list_requests(owner_id)
            self._done |= {each for each in requests if self._is_ours(each) and self._handle(each)}
            await self._inbox.forward([each for each in requests if not self._is_ours(each)])
        for previous in (self._former.keys() | self._inherited.keys()) - {owner_id}:
            requests = await self._inbox.list_requests(previous)
            ours = [each for each in requests if self._is_ours(each)]
            await self._inbox.forward(requests if previous in self._former else ours)
            if ours:
                self._wakeup.set()  # they stand under our name now
        done = set(self._done)  # last: where rows cannot be deleted, who rings is heard all the same
        await self._delete(done)
        self._done -= done

    def _forget_shards(self, is_gone: Callable[[int], bool]) -> None:
        """Remember nothing any more of what was asked for in shards that went."""
        self._pending = {each: request for each, request in self._pending.items() if not is_gone(shard_of(each.user))}

    async def _delete(self, requests: Collection[OwnerRequest]) -> None:
        if requests:
            await self._inbox.delete(requests)

    def _is_ours(self, request: OwnerRequest) -> bool:
        return self._epoch(shard_of(request.connection.user)) is not None

    def _handle(self, request: OwnerRequest) -> bool:
        """Do what a ring asks for; return whether it may be forgotten: of those for one look, all but the first."""
        shard, connection = shard_of(request.connection.user), request.connection
        epoch = self._epoch(shard)
        if (
            epoch is None
            or not self._is_loaded(shard)
            or request in self._done
            or self._pending.get(connection) == request
        ):
            return False
        self._relay.wake([shard])
        if request.kind is not RequestKind.POLL:
            return True
        self._scheduler.request_poll(connection, epoch=epoch)
        return self._pending.setdefault(connection, request) != request
