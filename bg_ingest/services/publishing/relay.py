"""Outbox relay: publishes committed changes in order per user; ``replay`` repeats them for a consumer."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from itertools import groupby
from operator import attrgetter
from typing import TypeAlias

import anyio
import structlog

from bg_ingest.domain.changes import Change, UserErased
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import BrokerUnavailable, EventRefused, NotFound
from bg_ingest.ports import Observer, OutboxPass, Publisher
from bg_ingest.store import Store
from bg_ingest.store.changes import OutboxEntry, OutboxStore

Changes: TypeAlias = Mapping[OutboxEntry, Change]

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MAX_CONCURRENT_USERS = 32
"""Users with changes published at the same time. Higher values gave no more confirms per second."""


class Relay:
    """Publishes the outbox of a shard, at least once: a crash before settling repeats events under the same id."""

    def __init__(self, outbox: OutboxStore, publisher: Publisher, observer: Observer) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._observer = observer
        self._running: set[int] = set()

    async def non_empty_shards(self, shards: Collection[int]) -> set[int]:
        """Return those of the shards that have unpublished changes."""
        non_empty = await self._outbox.non_empty_shards(shards)
        for shard in set(shards) - non_empty - self._running:
            self._observer.outbox_pass(OutboxPass(shard, ended=True, complete=True))
        return non_empty

    async def publish_shard(self, shard: int, cached: Changes) -> OutboxPass:
        """Publish all waiting changes; those in ``cached`` are not read from the store.

        A refused event holds back the user's later events. BrokerUnavailable ends the pass; events confirmed before it
        are settled nevertheless.
        """
        outbox_pass = OutboxPass(shard)
        blocked: set[UserId] = set()
        self._running.add(shard)
        self._observer.outbox_pass(outbox_pass)
        try:
            async with aclosing(self._outbox.iter_entries(shard)) as pages:
                async for page in pages:
                    outbox_pass.seen += len(page)
                    entries = [row for row in page if row.user not in blocked]
                    if entries:
                        await self._publish_page(entries, cached, blocked, outbox_pass)
                    self._observer.outbox_pass(outbox_pass)
            outbox_pass.complete = True
        finally:
            outbox_pass.ended = True
            self._running.discard(shard)
            self._observer.outbox_pass(outbox_pass)
        return outbox_pass

    async def _publish_page(
        self, page: Sequence[OutboxEntry], cached: Changes, blocked: set[UserId], outbox_pass: OutboxPass
    ) -> None:
        missing = [row for row in page if row not in cached]
        changes = {**cached, **(await self._outbox.changes(missing) if missing else {})}
        # an erasure after the read of the page has deleted both the outbox row and the change of an entry
        page = [row for row in page if row in changes or await self._outbox.exists(row)]
        confirmed: list[OutboxEntry] = []
        unavailable: list[BrokerUnavailable] = []
        limit = anyio.Semaphore(MAX_CONCURRENT_USERS)

        async def publish_user(rows: list[OutboxEntry]) -> None:
            async with limit:
                for row in rows:
                    if unavailable:
                        return
                    try:
                        await self._publish(row, changes.get(row), outbox_pass)
                    except EventRefused:
                        outbox_pass.refused += 1
                        blocked.add(row.user)
                        return
                    except BrokerUnavailable as error:
                        unavailable.append(error)
                        return
                    confirmed.append(row)

        try:
            async with anyio.create_task_group() as group:
                for _, rows in groupby(page, key=attrgetter("user")):
                    group.start_soon(publish_user, list(rows))
        finally:
            settled: set[OutboxEntry] = set()
            if confirmed:
                # shielded, because unsettled events are published again, which costs but is harmless
                with anyio.move_on_after(5, shield=True):
                    await self._settle(confirmed, changes)
                    settled.update(confirmed)
            waiting = [changes[row] for row in page if row in changes and row not in settled]
            outbox_pass.add_page(len(settled), [change.recorded_at for change in waiting])
        if unavailable:
            raise unavailable[0]

    async def _settle(self, confirmed: Sequence[OutboxEntry], changes: Changes) -> None:
        """Delete the entries of confirmed events. The event of an erasure is deleted together with its change."""
        erasures = {row for row in confirmed if row in changes and isinstance(changes[row].data, UserErased)}
        await self._outbox.settle([row for row in confirmed if row not in erasures])
        for row in erasures:
            await self._outbox.settle_last(row)

    async def _publish(self, row: OutboxEntry, change: Change | None, outbox_pass: OutboxPass) -> None:
        if change is None:
            log.error("an event expired before it was published", action="event_expired", number=row.number)
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

    The relay of the user's shard finds them within a minute. Only first deliveries are in order, not such repeats.
    """
    head = await store.readings.head(user)
    if head is None:
        raise NotFound(f"There is no user {user}.")
    count, end = 0, min(last or head.last_change, head.last_change)
    for start in range(first, end + 1, REPLAY_BATCH_SIZE):
        changes = await store.changes.read(user, start, min(start + REPLAY_BATCH_SIZE - 1, end))
        await store.outbox.restore(changes)
        count += len(changes)
    return count
