"""List of users: one row per user in the partition of the shard. The list includes users without a connection.

The commit that creates a head writes the row (``head.py``), and an erasure deletes it.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from bg_ingest.domain.ids import UserId
from bg_ingest.ports.table import Put
from bg_ingest.store import keys
from bg_ingest.store.items import ItemStore, build_item

PAGE_SIZE = 100


class UserStore(ItemStore):
    """Users with a head that is no tombstone."""

    async def list_shard(self, shard: int, after: UserId | None, limit: int) -> list[UserId]:
        """Return at most ``limit`` users of a shard, ascending, after a user."""
        low, high = keys.prefix_range(keys.USERS)
        if after is not None:
            low = f"{keys.USERS}{after}\x00"  # the smallest key after the key of this user
        users: list[UserId] = []
        query = self._table.query(keys.directory_pk(shard), low, high, page=min(limit, PAGE_SIZE))
        async with aclosing(query) as pages:
            async for page in pages:
                users += [keys.parse_listed_user(key) for key, _ in page]
                if len(users) >= limit:
                    break
        return users[:limit]

    async def scan_users(self, part: int, parts: int) -> AsyncGenerator[Sequence[UserId]]:
        """Yield the users of one part of the table by their heads, tombstones excluded. A scan, for upgrades only."""
        async with aclosing(self._table.scan(part, parts, (keys.HEAD,))) as pages:
            async for page in pages:
                heads = [(keys.parse_user(key), item) for key, item in page if key[1] == keys.HEAD]
                yield [user for user, item in heads if user is not None and not item["erased"]]

    async def add(self, user: UserId) -> None:
        """Add a user to the list; an existing row stays as it is."""
        await self._table.write(Put(keys.listed_user(user), build_item()))

    async def remove(self, user: UserId) -> None:
        """Remove an erased user from the list."""
        await self._table.delete([keys.listed_user(user)])
