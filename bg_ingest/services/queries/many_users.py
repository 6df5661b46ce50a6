"""Queries over many users at once: their newest readings, and the changes after a vector of cursors."""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing

import msgspec

from bg_ingest.domain.commits import Head
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import CursorExpired
from bg_ingest.ports import Clock
from bg_ingest.services.queries.changes import ChangeQueries, PublishedEvent
from bg_ingest.services.queries.readings import Latest, latest_until
from bg_ingest.store import Store


class EventOf(msgspec.Struct, frozen=True):
    """Next event of a user."""

    user: UserId
    event: PublishedEvent


class Snapshot(msgspec.Struct, frozen=True):
    """Present state of a user whose changes are followed from now on."""

    user: UserId
    change: int
    latest: Latest | None
    missed: tuple[int, int] | None = None
    """First and last number of the changes that a stream leaves out. Set only in streams."""


class Expired(msgspec.Struct, frozen=True):
    """A cursor that cannot be continued: the next change is not kept, or the cursor is ahead of the last change."""

    user: UserId
    first_kept: int
    last: int


class Unknown(msgspec.Struct, frozen=True):
    """A user that never connected or was erased."""

    user: UserId


class End(msgspec.Struct, frozen=True):
    """End of an answer."""

    after: dict[UserId, int]
    """Cursors for the next request, of the users with an event or a snapshot in this answer."""
    more: bool


Line = EventOf | Snapshot | Expired | Unknown | End


class ManyUsersQueries:
    """Makes no write. Heads may be a second old; changes are read consistently."""

    def __init__(self, store: Store, changes: ChangeQueries, clock: Clock) -> None:
        self._store = store
        self._changes = changes
        self._clock = clock

    async def latest(self, users: Collection[UserId]) -> dict[UserId, Latest]:
        """Return the newest reading up to now of each user that has one, in one read."""
        heads = await self._store.readings.heads(users)
        latest = {user: await self._latest(head) for user, head in heads.items() if not head.erased}
        return {user: newest for user, newest in latest.items() if newest is not None}

    async def _latest(self, head: Head) -> Latest | None:
        return await latest_until(self._store.readings, head, self._clock.now())

    async def changes(self, after: Mapping[UserId, int | None], limit: int) -> AsyncGenerator[Line]:
        """Yield the lines of an answer: at most ``limit`` events, consecutive for each user, then the end.

        ``after`` holds the cursor of each user. For None, a snapshot of now is yielded instead of events.
        """
        heads = await self._store.readings.heads_after(after)
        reached: dict[UserId, int] = {}
        left, more = limit, False
        for user, cursor in after.items():
            head = heads.get(user)
            if head is None or head.erased:
                yield Unknown(user)
            elif cursor is None:
                reached[user] = head.last_change
                yield Snapshot(user, head.last_change, await self._latest(head))
            elif cursor > head.last_change:
                yield Expired(user, head.last_change + 1, head.last_change)
            else:
                until = min(head.last_change, cursor + left)
                more = more or until < head.last_change
                try:
                    async with aclosing(self._changes.events(user, cursor, until, head)) as events:
                        async for event in events:
                            left -= 1
                            reached[user] = event.number
                            yield EventOf(user, event)
                except CursorExpired as expired:
                    yield Expired(user, expired.first_kept, expired.last)
        yield End(reached, more)
