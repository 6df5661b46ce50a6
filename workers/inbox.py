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
from workers.ownership_view import OwnershipView
from workers.relay import RelayActor
from workers.scheduler import Scheduler
from workers.wakeup import Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

INHERIT_SECONDS = 20.0
"""Seconds for which rings to a shard's previous owner are read: longer than any process believes an old look."""


class PollRequests:
    """Rings for a look that were handed to the scheduler: one for each connection, and those whose look was had."""

    def __init__(self) -> None:
        self.done: set[OwnerRequest] = set()
        """Forgotten at the next reading."""
        self._pending: dict[ConnectionId, OwnerRequest] = {}

    def add(self, request: OwnerRequest) -> bool:
        """Take note of a request, unless another for its connection is pending; return whether it is the first."""
        return self._pending.setdefault(request.connection, request) == request

    def contains(self, request: OwnerRequest) -> bool:
        return request in self.done or self._pending.get(request.connection) == request

    def finish(self, connection: ConnectionId) -> None:
        """Take note that a connection's look was had."""
        if request := self._pending.pop(connection, None):
            self.done.add(request)

    def forget_shards(self, is_gone: Callable[[int], bool]) -> None:
        """Remember nothing any more of what was asked for in shards that went."""
        self._pending = {each: request for each, request in self._pending.items() if not is_gone(shard_of(each.user))}


class InboxReader:
    """An actor that turns rings into looks and tellings here; one for a shard we gave away is sent on."""

    def __init__(
        self,
        requests: InboxStore,
        scheduler: Scheduler,
        relay: RelayActor,
        *,
        ownership: OwnershipView,
        poll_requests: PollRequests,
        is_loaded: Callable[[int], bool],
        interval: float,
    ) -> None:
        """``is_loaded`` tells whether a shard's connections have their seats."""
        self._inbox = requests
        self._scheduler = scheduler
        self._relay = relay
        self._ownership = ownership
        self._poll_requests = poll_requests
        self._is_loaded = is_loaded
        self._interval = interval
        self._inherited: dict[str, float] = {}
        self._last_owner_id: str | None = None
        self._former: dict[str, float] = {}
        self._wakeup = Wakeup()
        self._unreadable = False

    def wake(self) -> None:
        """Take the hint that a ring was just sent to us."""
        self._wakeup.set()

    def inherit(self, taken: Collection[Lease]) -> None:
        """Read also what is sent to the previous owners of these shards, for a while."""
        shards = {each.shard for each in taken}
        self._poll_requests.forget_shards(
            lambda shard: shard in shards
        )  # what was asked of their seats before went with these
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

    async def _read_all(self) -> None:
        now, owner_id = anyio.current_time(), self._ownership.owner_id
        if (
            self._last_owner_id and owner_id != self._last_owner_id
        ):  # we were taken for dead, and may have been rung at since
            self._former[self._last_owner_id] = now + INHERIT_SECONDS
        self._last_owner_id = owner_id
        self._former = {each: until for each, until in self._former.items() if until > now}
        self._inherited = {each: until for each, until in self._inherited.items() if until > now}
        self._poll_requests.forget_shards(lambda shard: self._ownership.epoch(shard) is None)
        if owner_id is not None:
            requests = await self._inbox.list_requests(owner_id)
            self._poll_requests.done |= {each for each in requests if self._is_ours(each) and self._handle(each)}
            await self._inbox.forward([each for each in requests if not self._is_ours(each)])
        for previous in (self._former.keys() | self._inherited.keys()) - {owner_id}:
            requests = await self._inbox.list_requests(previous)
            ours = [each for each in requests if self._is_ours(each)]
            await self._inbox.forward(requests if previous in self._former else ours)
            if ours:
                self._wakeup.set()  # they stand under our name now
        done = set(self._poll_requests.done)  # last: where rows cannot be deleted, who rings is heard all the same
        await self._delete(done)
        self._poll_requests.done -= done

    async def _delete(self, requests: Collection[OwnerRequest]) -> None:
        if requests:
            await self._inbox.delete(requests)

    def _is_ours(self, request: OwnerRequest) -> bool:
        return self._ownership.epoch(shard_of(request.connection.user)) is not None

    def _handle(self, request: OwnerRequest) -> bool:
        """Do what a ring asks for; return whether it may be forgotten: of those for one look, all but the first."""
        shard, connection = shard_of(request.connection.user), request.connection
        epoch = self._ownership.epoch(shard)
        if epoch is None or not self._is_loaded(shard) or self._poll_requests.contains(request):
            return False
        self._relay.wake([shard])
        if request.kind is not RequestKind.POLL:
            return True
        self._scheduler.request_poll(connection, epoch=epoch)
        return not self._poll_requests.add(request)
