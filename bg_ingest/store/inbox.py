"""Inbox of each owner: durable requests to poll a connection or to publish, one row each."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from bg_ingest.domain.commits import Commit
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.ownership import UNOWNED, Lease
from bg_ingest.domain.segment_codec import to_epoch_ms, to_epoch_seconds
from bg_ingest.ports import Clock
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import keys
from bg_ingest.store.items import build_item, read_range

REQUEST_RETENTION = timedelta(hours=1)
"""Lifetime of a request. Within an hour, the owner of the shard reads all connections and heads of the shard again, and
usually the next regular poll happens. An older request is therefore not needed."""


class RequestKind(StrEnum):
    POLL = "look"
    """The connection is new, changed, or to be polled now."""
    PUBLISH = "tell"
    """A change of the user was committed by a process that does not own the user's shard."""


class OwnerRequest(msgspec.Struct, frozen=True):
    """Stored request, with the address it was sent to."""

    address: str
    at: int
    """Epoch milliseconds by the sender's clock; used only to keep keys distinct."""
    connection: ConnectionId
    """For PUBLISH only the user matters; the provider may be empty."""
    kind: RequestKind


class ShardAddresses:
    """Addresses of shards, as this process last read or wrote them.

    The address of a shard is the id of its owner, or of its previous owner while it has no owner.
    """

    def __init__(self) -> None:
        self.own_id: str | None = None
        self._by_shard: dict[int, str | None] = {}

    def register(self, own_id: str) -> None:
        """Set the id of this process, once its row is written."""
        self.own_id = own_id

    def update(self, leases: Iterable[Lease]) -> None:
        self._by_shard.update({lease.shard: lease.owner or lease.previous for lease in leases})

    def get(self, shard: int) -> str | None:
        return self._by_shard.get(shard)


class InboxStore:
    """Requests addressed to the owner of a connection's shard."""

    def __init__(self, table: Table, clock: Clock, addresses: ShardAddresses) -> None:
        self._table = table
        self._clock = clock
        self._addresses = addresses

    async def request_poll(self, connection: ConnectionId) -> None:
        await self._table.write(await self.poll_request(connection))

    async def request_publishing(self, user: UserId) -> None:
        """Request the owner of the shard to publish the user's unpublished changes. A commit writes its own request."""
        address = await self._address(shard_of(user))
        await self._table.write(_request_write(address, self._clock.now(), ConnectionId(user, ""), RequestKind.PUBLISH))

    async def list_requests(self, address: str) -> list[OwnerRequest]:
        rows = await read_range(self._table, keys.inbox_pk(address), *keys.prefix_range(keys.REQUESTS))
        return [OwnerRequest(address, *keys.parse_request(key), RequestKind(item["wish"])) for key, item in rows]

    async def delete(self, requests: Collection[OwnerRequest]) -> None:
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

    async def publish_request(self, user: UserId) -> Put | None:
        """Return the write of a publish request to another process.

        None if this process owns the shard or has no owner id, or if the shard never had an owner.
        """
        own = self._addresses.own_id
        if own is None or (address := await self._address(shard_of(user))) in (own, UNOWNED):
            return None
        return _request_write(address, self._clock.now(), ConnectionId(user, ""), RequestKind.PUBLISH)

    async def request_for(self, commit: Commit) -> Put | None:
        """Return the request that a commit causes. A poll request suffices, as its handling also publishes."""
        if commit.connection_update and commit.connection_update.request_poll:
            return await self.poll_request(commit.connection_update.after.id)
        return await self.publish_request(commit.user) if commit.changes else None

    async def _address(self, shard: int) -> str:
        """Return the address of a shard's owner: from memory if the ownership actor has read it, else by a read."""
        if address := self._addresses.get(shard):
            return address
        lease = await self._table.get(keys.shard(shard)) or {}
        return lease.get("owner") or lease.get("previous") or UNOWNED


def _request_write(address: str, now: datetime, connection: ConnectionId, kind: RequestKind) -> Put:
    return Put(
        keys.request(address, to_epoch_ms(now), connection),
        build_item(wish=kind, expires_at=to_epoch_seconds(now + REQUEST_RETENTION)),
    )
