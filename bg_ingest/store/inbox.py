"""Inbox of each owner: durable requests to poll a connection or to publish, one row each."""

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from bg_ingest.domain.commits import Commit
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.segment_codec import to_epoch_ms, to_epoch_seconds
from bg_ingest.ports import Clock
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import keys
from bg_ingest.store.items import build_item, read_range
from bg_ingest.store.ownership import ShardAddresses, decode_lease, inbox_address

REQUEST_RETENTION = timedelta(hours=1)
"""Older requests are useless: the directory and the outbox are read again long before, and the next slot may have
come."""


class RequestKind(StrEnum):
    """Kind of a request."""

    POLL = "look"
    """The connection is new, changed, or to be polled now."""
    PUBLISH = "tell"
    """A change of the user was committed by a process that does not own its shard."""


class OwnerRequest(msgspec.Struct, frozen=True):
    """Stored request, with the address it was sent to."""

    address: str
    at: int
    """Epoch milliseconds by the sender's clock. They only make keys distinct."""
    connection: ConnectionId
    """For PUBLISH only the user matters; the provider may be empty."""
    kind: RequestKind


class InboxStore:
    """Requests addressed to the owner of a connection's shard."""

    def __init__(self, table: Table, clock: Clock, addresses: ShardAddresses) -> None:
        self._table = table
        self._clock = clock
        self._addresses = addresses

    async def request_poll(self, connection: ConnectionId) -> None:
        """Write a request to poll the connection now."""
        await self._table.write(await self.poll_request(connection))

    async def list_requests(self, address: str) -> list[OwnerRequest]:
        """Return the requests that were sent to an address."""
        low, high = keys.REQUESTS, keys.prefix_end(keys.REQUESTS)
        rows = await read_range(self._table, keys.inbox_pk(address), low, high)
        return [OwnerRequest(address, *keys.parse_request(key), RequestKind(item["wish"])) for key, item in rows]

    async def delete(self, requests: Collection[OwnerRequest]) -> None:
        """Delete handled requests."""
        await self._table.delete(
            [keys.request(request.address, request.at, request.connection) for request in requests]
        )

    async def forward(self, requests: Collection[OwnerRequest]) -> None:
        """Move requests to the present owners of their shards."""
        for request in requests:
            address = await self._address(shard_of(request.connection.user))
            if address != request.address:
                await self._table.write(_request_write(address, self._clock.now(), request.connection, request.kind))
                await self.delete([request])

    async def poll_request(self, connection: ConnectionId) -> Put:
        """Return the write of a poll request, for the transaction of the change that causes it."""
        address = await self._address(shard_of(connection.user))
        return _request_write(address, self._clock.now(), connection, RequestKind.POLL)

    def publish_request(self, user: UserId) -> Put | None:
        """Return the write of a publish request, or None if this process publishes the shard or knows no owner."""
        address = self._addresses.publish_address(shard_of(user))
        return (
            _request_write(address, self._clock.now(), ConnectionId(user, ""), RequestKind.PUBLISH) if address else None
        )

    async def request_for(self, commit: Commit) -> Put | None:
        """Return the request that a commit causes. A poll request suffices, as its handling also publishes."""
        if commit.connection_update and commit.connection_update.request_poll:
            return await self.poll_request(commit.connection_update.after.id)
        return self.publish_request(commit.user) if commit.changes else None

    async def _address(self, shard: int) -> str:
        """Return the address of a shard's owner: from memory in a process with an ownership actor, else by a read."""
        if self._addresses.own_id is None:
            item = await self._table.get(keys.shard(shard))
            return inbox_address(decode_lease(shard, item) if item else None)
        return inbox_address(self._addresses.leases.get(shard))


def _request_write(address: str, now: datetime, connection: ConnectionId, kind: RequestKind) -> Put:
    return Put(
        keys.request(address, to_epoch_ms(now), connection),
        build_item(wish=kind, expires_at=to_epoch_seconds(now + REQUEST_RETENTION)),
    )
