"""Outbox relay: publishes committed changes in order per user; ``replay`` repeats them for a consumer."""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import TypeAlias

import anyio
import msgspec
import structlog

from bg_ingest.domain.changes import Change, UserErased
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import BrokerUnavailable, EventRefused, NotFound
from bg_ingest.ports import Observer, OutboxPass, Publisher
from bg_ingest.store import Store
from bg_ingest.store.outbox import OutboxEntry, OutboxStore, ShardDirectory

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MAX_CONCURRENT_USERS = 32
"""Users whose changes are published at the same time. Higher values gave no more confirms per second."""

PAGE_SIZE = 100
"""Changes published between two reports, and read by one call."""

MAX_AGE_SECONDS = 1.0
"""Largest age of a change that is published from memory. For an older change the head is read again, because another
process may have erased the user since the commit."""


class CommittedChange(msgspec.Struct, frozen=True):
    """Change that this process has just committed."""

    change: Change
    committed_at: float
    """On the clock of the event loop."""


Waiting: TypeAlias = Mapping[UserId, Sequence[CommittedChange]]
"""Users with unpublished changes. Each sequence has the changes in memory; if it is empty, the store is read."""


class Relay:
    """Publishes the unpublished changes of a shard, at least once.

    A change is published only if the user's previous change is recorded as published: in memory, in the head, or in the
    shard's row of published numbers. The order of first deliveries therefore does not depend on the ownership of the
    shard. After a crash, events not recorded in the head or the row are repeated under the same id.
    """

    def __init__(self, outbox: OutboxStore, publisher: Publisher, observer: Observer) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._observer = observer

    async def find_waiting(self, shard: int, directory: ShardDirectory, *, taken: bool) -> set[UserId]:
        """Return the users of a shard with unpublished changes.

        At a take-over (``taken``) the shard's row of published numbers is loaded, and the heads are read consistently.
        Later calls may read heads that are a second old, and find only changes with a lost wake-up.
        """
        if taken:
            self._outbox.published.load_row(shard, directory.published, directory.users)
        return await self._outbox.find_waiting(directory, consistent=taken)

    def report_empty(self, shard: int) -> None:
        """Report a shard without unpublished changes."""
        self._observer.outbox_pass(OutboxPass(shard, ended=True, complete=True))

    async def publish_shard(self, shard: int, waiting: Waiting) -> OutboxPass:
        """Publish the unpublished changes of users of a shard.

        A refused event holds back the user's later events. BrokerUnavailable ends the pass; events confirmed before it
        are settled nevertheless.
        """
        outbox_pass = OutboxPass(shard)
        self._observer.outbox_pass(outbox_pass)
        try:
            cached: dict[OutboxEntry, Change] = {}
            for changes in waiting.values():
                cached |= self._publishable(shard, changes)
            to_read = waiting.keys() - {entry.user for entry in cached}
            entries = sorted([*cached, *(await self._outbox.list_waiting(shard, to_read) if to_read else ())])
            for start in range(0, len(entries), PAGE_SIZE):
                page = entries[start : start + PAGE_SIZE]
                outbox_pass.seen += len(page)
                page = [entry for entry in page if entry.user not in outbox_pass.refused_users]
                if page:
                    await self._publish_page(page, cached, outbox_pass)
                self._observer.outbox_pass(outbox_pass)
            outbox_pass.complete = True
            await self.write_numbers([shard], only_due=True)
        finally:
            outbox_pass.ended = True
            self._observer.outbox_pass(outbox_pass)
        return outbox_pass

    async def write_numbers(self, shards: Collection[int], *, only_due: bool) -> None:
        """Write the published numbers that no commit has carried to a head yet."""
        for shard in shards:
            if not only_due or self._outbox.published.is_row_due(shard):
                await self._outbox.write_numbers(shard)

    def forget(self, shards: Collection[int]) -> None:
        """Drop the published numbers of released shards."""
        for shard in shards:
            self._outbox.published.forget(shard)

    def _publishable(self, shard: int, changes: Sequence[CommittedChange]) -> dict[OutboxEntry, Change]:
        """Return the changes if they are recent and follow the last published one; none if they must be read."""
        if not changes or anyio.current_time() - changes[0].committed_at > MAX_AGE_SECONDS:
            return {}
        user = changes[0].change.user
        first = self._outbox.published.get(user) + 1
        by_number = {committed.change.number: committed.change for committed in changes}
        if [*by_number] != [*range(first, first + len(by_number))]:
            return {}
        return {OutboxEntry(shard, user, number): change for number, change in by_number.items()}

    async def _publish_page(
        self, page: Sequence[OutboxEntry], cached: Mapping[OutboxEntry, Change], outbox_pass: OutboxPass
    ) -> None:
        missing = [entry for entry in page if entry not in cached]
        changes = {**cached, **(await self._outbox.changes(missing) if missing else {})}
        erased = {entry.user for entry in page if entry not in changes and await self._outbox.is_erased(entry.user)}
        outbox_pass.seen -= sum(entry.user in erased for entry in page)  # their changes are never published
        page = [entry for entry in page if entry.user not in erased]
        confirmed: list[OutboxEntry] = []
        unavailable: list[BrokerUnavailable] = []
        limit = anyio.Semaphore(MAX_CONCURRENT_USERS, fast_acquire=True)

        async def publish_user(entries: list[OutboxEntry]) -> None:
            async with limit:
                for entry in entries:
                    if unavailable:
                        return
                    try:
                        await self._publish(entry, changes.get(entry), outbox_pass)
                    except EventRefused:
                        outbox_pass.refused_users.add(entry.user)
                        return
                    except BrokerUnavailable as error:
                        unavailable.append(error)
                        return
                    self._outbox.published.confirm(entry.user, entry.number)
                    confirmed.append(entry)

        try:
            users = [list(entries) for _, entries in groupby(page, key=attrgetter("user"))]
            if len(users) == 1:  # the usual case; a task costs as much as the rest of the pass
                await publish_user(users[0])
            else:
                async with anyio.create_task_group() as group:
                    for entries in users:
                        group.start_soon(publish_user, entries)
        finally:
            settled: set[OutboxEntry] = set()
            if confirmed:
                # shielded, because unsettled events are published again, which costs but is harmless
                with anyio.move_on_after(5, shield=True):
                    await self._settle(confirmed, changes)
                    settled.update(confirmed)
            waiting = [changes[entry] for entry in page if entry in changes and entry not in settled]
            outbox_pass.add_page(len(settled), [change.recorded_at for change in waiting])
        if unavailable:
            raise unavailable[0]

    async def _settle(self, confirmed: Sequence[OutboxEntry], changes: Mapping[OutboxEntry, Change]) -> None:
        """Delete the rows of confirmed events. The event of an erasure is deleted together with its change."""
        erasures = {entry for entry in confirmed if entry in changes and isinstance(changes[entry].data, UserErased)}
        await self._outbox.settle([entry for entry in confirmed if entry not in erasures])
        for entry in erasures:
            await self._outbox.settle_erasure(entry)

    async def _publish(self, entry: OutboxEntry, change: Change | None, outbox_pass: OutboxPass) -> None:
        if change is None:
            log.error("an event expired before it was published", action="event_expired", number=entry.number)
            return
        with self._observer.publish(change) as observation:
            confirmed = await self._publisher.publish(change)
            observation.finish(confirmed)
        if not confirmed:
            outbox_pass.unroutable += 1


REPLAY_BATCH_SIZE = 100
"""Changes requested by one read."""


async def replay(store: Store, user: UserId, first: int, last: int | None = None) -> int:
    """Put the changes ``first`` to ``last`` back into the outbox; return their number. NotFound for an unknown user.

    The relay of the user's shard finds them within seconds. Only first deliveries are in order.
    """
    head = await store.readings.head(user)
    if head is None:
        raise NotFound(f"There is no user {user}.")
    count, end = 0, min(last or head.last_change, head.last_change)
    for start in range(first, end + 1, REPLAY_BATCH_SIZE):
        changes = await store.changes.read(user, start, min(start + REPLAY_BATCH_SIZE - 1, end))
        await store.outbox.restore(changes)
        count += len(changes)
    await store.inbox.request_publishing(user)
    return count
