"""The port Rings over a table: each is a row under the address of the process that is to hear it."""

from collections.abc import Collection
from contextlib import aclosing
from datetime import datetime, timedelta

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.owners import Addresses, address_of, lease_of
from bg_ingest.adapters.table.protocol import Put, Table
from bg_ingest.adapters.table.records import item
from bg_ingest.domain.columns import milliseconds, seconds
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.ports import Clock, Ring, Wish

KEPT = timedelta(hours=1)
"""A ring nobody heard, or whose look could not be had by then, is worth nothing later: the directory and the outbox are
read again long before, and the next slot may have come."""


class TableRings:
    def __init__(self, table: Table, clock: Clock, addresses: Addresses) -> None:
        self._table = table
        self._clock = clock
        self._addresses = addresses

    async def ring(self, connection: ConnectionId) -> None:
        await self._table.write(await self.look(connection))

    async def waiting(self, address: str) -> list[Ring]:
        low, high = keys.RINGS, keys.beyond(keys.RINGS)
        async with aclosing(self._table.query(keys.rings_pk(address), low, high)) as pages:
            rows = [row async for page in pages for row in page]
        return [Ring(address, *keys.parse_ring(key), Wish(str(found["wish"]))) for key, found in rows]

    async def heard(self, rings: Collection[Ring]) -> None:
        await self._table.delete([keys.ring(each.address, each.at, each.connection) for each in rings])

    async def send_on(self, rings: Collection[Ring]) -> None:
        for each in rings:
            address = await self._address(shard_of(each.connection.user))
            if address != each.address:
                await self._table.write(_put(address, self._clock.now(), each.connection, each.wish))
                await self.heard([each])

    async def look(self, connection: ConnectionId) -> Put:
        """Return the write that asks for a look, to go with whatever it is about."""
        address = await self._address(shard_of(connection.user))
        return _put(address, self._clock.now(), connection, Wish.LOOK)

    def tell(self, user: UserId) -> Put | None:
        """Return the write that says that something waits to be told, where another process is to tell it."""
        address = self._addresses.tell(shard_of(user))
        return _put(address, self._clock.now(), ConnectionId(user, ""), Wish.TELL) if address else None

    async def _address(self, shard: int) -> str:
        """Return who serves a shard: from memory where ownership is looked after, else by a read."""
        if self._addresses.me is None:
            found = await self._table.get(keys.shard(shard))
            return address_of(lease_of(shard, found) if found else None)
        return address_of(self._addresses.known.get(shard))


def _put(address: str, now: datetime, connection: ConnectionId, wish: Wish) -> Put:
    return Put(keys.ring(address, milliseconds(now), connection), item(wish=wish, expires_at=seconds(now + KEPT)))
