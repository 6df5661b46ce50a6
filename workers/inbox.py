"""Reader of the requests addressed to this owner and, for a while, to the previous owners of its shards.

A request stays in the inbox of this owner until the requested poll has run. If this process ends before, by a drain or
a kill, the next owner of the shard finds the request there.
"""

from collections.abc import Callable, Collection

import anyio
import structlog
from anyio.abc import TaskStatus

from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.ownership import UNOWNED, Lease
from bg_ingest.errors import StoreError
from bg_ingest.store.inbox import InboxStore, OwnerRequest, RequestKind
from workers.handover import OwnershipView
from workers.relay import RelayActor
from workers.scheduler import Scheduler
from workers.wakeup import Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

INHERIT_SECONDS = 20.0
"""Seconds in which the inbox of a shard's previous owner is read. After this time every process
has read the new owner of the shard."""


class PollRequests:
    """Poll requests handed to the scheduler: one pending request per connection, and those whose poll has run."""

    def __init__(self) -> None:
        self.done: set[OwnerRequest] = set()
        """Requests that the next read of the inbox deletes."""
        self._pending: dict[ConnectionId, OwnerRequest] = {}

    def add(self, request: OwnerRequest) -> bool:
        """Add a request; if another request for its connection is pending, only return False."""
        return self._pending.setdefault(request.connection, request) == request

    def contains(self, request: OwnerRequest) -> bool:
        return request in self.done or self._pending.get(request.connection) == request

    def finish(self, connection: ConnectionId) -> None:
        if request := self._pending.pop(connection, None):
            self.done.add(request)

    def forget_shards(self, is_gone: Callable[[int], bool]) -> None:
        """Drop the pending requests of shards that are no longer served."""
        self._pending = {
            connection: request
            for connection, request in self._pending.items()
            if not is_gone(shard_of(connection.user))
        }


class InboxReader:
    """An actor that passes requests to scheduler and relay, and forwards requests for shards owned elsewhere."""

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
        """``is_loaded`` returns True for a shard whose connections are scheduled."""
        self._inbox = requests
        self._scheduler = scheduler
        self._relay = relay
        self._ownership = ownership
        self._poll_requests = poll_requests
        self._is_loaded = is_loaded
        self._interval = interval
        self._previous_owners: dict[str, float] = {}
        self._last_owner_id: str | None = None
        self._own_former_ids: dict[str, float] = {}
        self._wakeup = Wakeup()
        self._unreadable = False

    def wake(self) -> None:
        """Read the inbox soon, because a request was just addressed to this owner."""
        self._wakeup.set()

    def inherit(self, taken: Collection[Lease]) -> None:
        """Read the inboxes of the previous owners of these shards too, for ``INHERIT_SECONDS``."""
        shards = {lease.shard for lease in taken}
        # requests pending since an earlier ownership of these shards: the connections scheduled then are gone
        self._poll_requests.forget_shards(shards.__contains__)
        until = anyio.current_time() + INHERIT_SECONDS
        self._previous_owners |= {lease.previous or UNOWNED: until for lease in taken}
        self._wakeup.set()

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            await self._wakeup.wait(min(1.0, self._interval) if self._previous_owners else self._interval)
            try:
                await self._read_all()
            except StoreError:
                if not self._unreadable:
                    log.warning("cannot read the inbox", action="inbox_unreadable")
                self._unreadable = True
            else:
                if self._unreadable:
                    log.info("reads the inbox again", action="inbox_readable")
                self._unreadable = False

    async def _read_all(self) -> None:
        now, owner_id = anyio.current_time(), self._ownership.owner_id
        # after a new registration, requests may still be addressed to the former id
        if self._last_owner_id and owner_id != self._last_owner_id:
            self._own_former_ids[self._last_owner_id] = now + INHERIT_SECONDS
        self._last_owner_id = owner_id
        self._own_former_ids = {former: until for former, until in self._own_former_ids.items() if until > now}
        self._previous_owners = {previous: until for previous, until in self._previous_owners.items() if until > now}
        self._poll_requests.forget_shards(lambda shard: self._ownership.epoch(shard) is None)
        if owner_id is not None:
            requests = await self._inbox.list_requests(owner_id)
            self._poll_requests.done |= {
                request for request in requests if self._is_ours(request) and self._handle(request)
            }
            await self._inbox.forward([request for request in requests if not self._is_ours(request)])
        for address in (self._own_former_ids.keys() | self._previous_owners.keys()) - {owner_id}:
            requests = await self._inbox.list_requests(address)
            ours = [request for request in requests if self._is_ours(request)]
            await self._inbox.forward(requests if address in self._own_former_ids else ours)
            if ours:
                self._wakeup.set()  # the forwarded requests are in our own inbox now
        done = set(self._poll_requests.done)  # last, so that requests are handled even if rows cannot be deleted
        if done:
            await self._inbox.delete(done)
        self._poll_requests.done -= done

    def _is_ours(self, request: OwnerRequest) -> bool:
        return self._ownership.epoch(shard_of(request.connection.user)) is not None

    def _handle(self, request: OwnerRequest) -> bool:
        """Pass a request on; return True if it may be deleted now.

        This is so because it requests no poll, or another poll request for its connection is pending.
        """
        shard, connection = shard_of(request.connection.user), request.connection
        epoch = self._ownership.epoch(shard)
        if epoch is None or not self._is_loaded(shard) or self._poll_requests.contains(request):
            return False
        self._relay.wake(connection.user)
        if request.kind is not RequestKind.POLL:
            return True
        self._scheduler.request_poll(connection, epoch=epoch)
        return not self._poll_requests.add(request)
