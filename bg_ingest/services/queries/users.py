"""List of users, page by page, and its upgrade for a table of an earlier version."""

from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime

import anyio
import msgspec

from bg_ingest.domain.commits import Head
from bg_ingest.domain.freshness import FreshnessState
from bg_ingest.domain.ids import SHARDS, UserId
from bg_ingest.errors import first_error
from bg_ingest.ports import Clock
from bg_ingest.services.queries.readings import latest_until
from bg_ingest.store import Store

MAX_SHARDS_AT_ONCE = 32
"""Shards read at the same time while few users are found: a small table has users in few of the 256 shards."""

SCAN_PARTS = 64


class UserCursor(msgspec.Struct, frozen=True):
    """Place in the list after a user: the shard, then the user's id."""

    shard: int = 0
    user: UserId | None = None


class ListedUser(msgspec.Struct, frozen=True):
    """User with a summary of the readings."""

    user_id: UserId
    change: int
    newest_reading_at: datetime | None
    state: FreshnessState | None
    """None without readings."""


class UserPage(msgspec.Struct, frozen=True):
    """Part of the list. A user that exists while all pages are read is in exactly one of them."""

    users: list[UserId]
    after: UserCursor
    more: bool


class UserQueries:
    """Reads stored data only, except for the upgrade of a table."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def page(self, after: UserCursor, limit: int) -> UserPage:
        """Return at most ``limit`` users after a cursor, by shard, then by id."""
        users: list[UserId] = []
        last, shard, start, width = after, after.shard, after.user, 1
        while shard < SHARDS:
            shards = range(shard, min(SHARDS, shard + width))
            by_shard = await self._read_shards(shards, start, limit + 1 - len(users))
            for number, ids in zip(shards, by_shard, strict=True):
                for user in ids:
                    if len(users) == limit:
                        return UserPage(users, last, more=True)
                    users.append(user)
                    last = UserCursor(number, user)
            many = 4 * sum(map(len, by_shard)) > limit
            shard, start, width = shards.stop, None, 1 if many else min(MAX_SHARDS_AT_ONCE, 2 * width)
        return UserPage(users, last, more=False)

    async def describe(self, users: list[UserId]) -> list[ListedUser]:
        """Return the users with their newest reading and state, a second old at most. Erased users are left out."""
        heads = await self._store.readings.heads(users)
        return [await self._describe(head) for user in users if (head := heads.get(user)) and not head.erased]

    async def _describe(self, head: Head) -> ListedUser:
        latest = await latest_until(self._store.readings, head, self._clock.now())
        return ListedUser(
            user_id=head.user,
            change=head.last_change,
            newest_reading_at=latest.newest.reading.measured_at if latest else None,
            state=latest.freshness().state if latest else None,
        )

    async def upgrade(self, on_progress: Callable[[int, int], None]) -> int:
        """Add the rows of all users of a table of an earlier version by one scan, and return their number.

        ``on_progress`` receives the number of finished parts and of all parts. A repetition adds nothing new. The head
        is read again after the row is written, because the user may have been erased in between.
        """
        number = 0
        for part in range(SCAN_PARTS):
            async with aclosing(self._store.users.scan_users(part, SCAN_PARTS)) as pages:
                async for page in pages:
                    for user in page:
                        number += await self._add(user)
            on_progress(part + 1, SCAN_PARTS)
        return number

    async def _add(self, user: UserId) -> bool:
        await self._store.users.add(user)
        head = await self._store.readings.head(user)
        if head is not None and not head.erased:
            return True
        await self._store.users.remove(user)
        return False

    async def _read_shards(self, shards: range, start: UserId | None, limit: int) -> list[list[UserId]]:
        """Return the first users of each shard; in the first of the shards, only users after ``start``."""
        by_shard: dict[int, list[UserId]] = {}

        async def read(shard: int, after: UserId | None) -> None:
            by_shard[shard] = await self._store.users.list_shard(shard, after, limit)

        try:
            async with anyio.create_task_group() as group:
                for shard in shards:
                    group.start_soon(read, shard, start if shard == shards.start else None)
        except BaseExceptionGroup as failed:
            raise first_error(failed) from None
        return [by_shard[shard] for shard in shards]
