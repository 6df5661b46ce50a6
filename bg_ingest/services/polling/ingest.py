"""Storage of readings from polls and pushes. Storing the same readings again changes nothing."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

import anyio
import msgspec
from msgspec.structs import replace

from bg_ingest.domain.commits import (
    ConnectionSummary,
    ConnectionUpdate,
    ReceivedWebhook,
    readings_commit,
    recheck_gaps_from,
    with_summary,
)
from bg_ingest.domain.connections import Connection, PollDefaults
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.polling import Outcome, PollResult
from bg_ingest.domain.readings import Origin, Reading, Unreadable
from bg_ingest.domain.segments import Decision, decide, segment_starts, split_batch
from bg_ingest.errors import Fenced, ItemTooLarge, StaleRead
from bg_ingest.ports import Capabilities, Clock, Observer, Page
from bg_ingest.services.pauses import pause
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.polling.quarantine import Quarantine
from bg_ingest.services.retries import retrying
from bg_ingest.store.segments import ReadingStore, SeriesRead
from bg_ingest.store.webhooks import WebhookStore

MAX_RETRY_SECONDS = 5.0
"""Seconds for which a commit is repeated after StaleRead, in at most 10 tries. Then the poll or push fails; the next
poll, or the sender of the push, repeats it."""


class PageReads:
    """Series as read before the commits of a page."""

    def __init__(self, prefetched: SeriesRead | None) -> None:
        self.next = prefetched
        """Used at most once, in place of the next read."""
        self.base = prefetched.segments if prefetched else None


@dataclass(frozen=True)
class Ingester:
    """Stores batches of readings of any origin."""

    readings: ReadingStore
    webhooks: WebhookStore
    quarantine: Quarantine
    committer: Committer
    observer: Observer
    clock: Clock
    capabilities: Mapping[str, Capabilities]
    defaults: PollDefaults
    _user_locks: WeakValueDictionary[UserId, anyio.Lock] = field(default_factory=WeakValueDictionary, init=False)

    async def ingest(
        self,
        connection: Connection,
        page: Page,
        *,
        origin: Origin,
        after: Connection | None = None,
        webhook: ReceivedWebhook | None = None,
        prefetched: SeriesRead | None = None,
    ) -> tuple[PollResult, Connection]:
        """Store a page in as few commits as possible, oldest first; return its counts and the connection after it.

        ``after`` is the connection to store with the last commit. The watermark rises with every commit, so that little
        is repeated after a crash in between. Without ``after`` (a push) the commits only check that the connection
        still accepts pushes. The id of a ``webhook`` is stored with the commit of the last batch, or without a commit
        if that batch changes nothing. ``prefetched`` replaces the first read if it has the segments of the first batch.
        A value that equals the one in ``prefetched`` is a duplicate, even if another writer has revised the reading
        since.

        Raises StoreUnavailable; Fenced if the connection has changed since it was read, or the webhook was stored
        meanwhile. Commits before the error stay.
        """
        result = await self.quarantine.add(connection, page.unreadable)
        batches = await _split(page.readings)
        reads = PageReads(prefetched)
        while batches:
            batch = batches.popleft()
            update = self._plan_update(connection, batch, after, is_last=not batches)
            try:
                stored = await self._commit_serially(update, batch, origin, None if batches else webhook, reads)
            except ItemTooLarge:  # permanent: if it failed the poll, every later poll would fail too
                if len(batch) == 1:
                    result = result.merge(await self.quarantine.add(connection, [_too_large(batch[0])]))
                else:
                    batches.extendleft((batch[len(batch) // 2 :], batch[: len(batch) // 2]))
                continue
            if stored.outcome is Outcome.READ:
                connection = update.after
                webhook = webhook if batches else None
            result = result.merge(stored)
        if webhook is not None:
            await self.webhooks.add(webhook)
        self.observer.ingested(connection.id, origin, result)
        return result, connection

    def _plan_update(
        self, connection: Connection, batch: Sequence[Reading], after: Connection | None, *, is_last: bool
    ) -> ConnectionUpdate:
        if after is None:
            return ConnectionUpdate(connection, connection)
        reached = with_progress(connection, batch, self.clock.now())
        reached = replace(reached, suspected_gap_at=after.suspected_gap_at)
        return ConnectionUpdate(connection, _merge_progress(reached, after) if is_last else reached)

    async def _commit_serially(
        self,
        update: ConnectionUpdate,
        batch: Sequence[Reading],
        origin: Origin,
        webhook: ReceivedWebhook | None,
        reads: PageReads,
    ) -> PollResult:
        """Commit one batch of a user at a time, because the commits of a burst of pushes would conflict."""
        mutex = self._user_locks.setdefault(update.after.id.user, anyio.Lock(fast_acquire=True))
        if mutex.locked():  # the commit in progress changes what was read
            reads.next = None
        async with mutex:
            return await self._commit(update, batch, origin, webhook, reads)

    @retrying(StaleRead, deadline=MAX_RETRY_SECONDS, first_wait=0.01, max_wait=0.64)
    async def _commit(
        self,
        update: ConnectionUpdate,
        batch: Sequence[Reading],
        origin: Origin,
        webhook: ReceivedWebhook | None,
        reads: PageReads,
    ) -> PollResult:
        """Commit one batch."""
        starts = segment_starts(batch)
        user = update.after.id.user
        series, reads.next = reads.next, None
        if series is None or not starts <= series.starts:
            series = await self.readings.read(user, starts)
        head, known, _ = series
        if head is None or head.erased:
            raise Fenced
        await pause()  # unpacking and packing a segment of a 1-minute sensor take some milliseconds each
        at = head.next_recorded_at(self.clock.now())
        decision = decide(known, batch, at=at, last_change=head.last_change, base=reads.base)
        quarantined = await self.quarantine.add(update.before or update.after, decision.rejected)
        provider = update.after.id.provider
        checked_until = head.gaps_checked_until.get(provider)
        late = sum(checked_until is not None and row.reading.measured_at < checked_until for row in decision.recorded)
        counts = PollResult(Outcome.READ, len(decision.recorded), len(decision.revised), decision.duplicates, late=late)
        if not decision.segments:
            return quarantined.merge(replace(counts, outcome=Outcome.NOTHING_NEW))
        origin = _origin(update.before, decision, origin)
        commit = readings_commit(head, known, decision, provider=provider, origin=origin, at=at)
        after = commit.head
        # a push (before == after) keeps the summary, because its copy of the connection may be out of date
        if update.before != update.after:
            after = with_summary(after, provider, self.summarize(update.after))
        after = recheck_gaps_from(after, provider, decision.recorded)
        commit = replace(commit, connection_update=update, head=after, webhook=webhook)
        await self.committer.commit(commit)
        return quarantined.merge(counts)

    def summarize(self, connection: Connection) -> ConnectionSummary:
        """Return the part of a connection that the ``latest`` route needs."""
        capabilities = self.capabilities[connection.id.provider]
        cadence = connection.cadence_seconds or capabilities.cadence.total_seconds()
        return ConnectionSummary(
            connection.state,
            int(cadence),
            int(capabilities.delay(connection.region, connection.delay_seconds).total_seconds()),
            int(self.defaults.interval(connection.worker) / timedelta(seconds=1)),
        )


async def _split(readings: Sequence[Reading]) -> deque[list[Reading]]:
    batches: deque[list[Reading]] = deque()
    for batch in split_batch(readings):
        if batches:
            await pause()  # the split of 30 days takes over 20 ms
        batches.append(batch)
    return batches


def _too_large(reading: Reading) -> Unreadable:
    return Unreadable("segment_full", msgspec.json.encode(reading), reading.measured_at)


def with_progress(connection: Connection, batch: Sequence[Reading], now: datetime) -> Connection:
    """Return the connection with the progress of stored readings (ascending).

    The watermark never falls. It does not rise beyond ``now`` either, because a sensor's clock may be a little ahead.
    """
    if not batch:
        return connection
    newest = batch[-1].measured_at
    reached = min(newest, now)
    return replace(
        connection,
        watermark=max(connection.watermark or reached, reached),
        newest_reading_at=max(connection.newest_reading_at or newest, newest),
    )


def _merge_progress(reached: Connection, after: Connection) -> Connection:
    return replace(
        after,
        watermark=max(filter(None, (reached.watermark, after.watermark)), default=None),
        newest_reading_at=reached.newest_reading_at,
    )


def _origin(before: Connection | None, decision: Decision, origin: Origin) -> Origin:
    """Return OVERLAP if all recorded readings of a live poll lie before the watermark, else the given origin."""
    watermark = before.watermark if before else None
    late = watermark is not None and all(stored.reading.measured_at < watermark for stored in decision.recorded)
    return Origin.OVERLAP if origin is Origin.LIVE and late and decision.recorded else origin
