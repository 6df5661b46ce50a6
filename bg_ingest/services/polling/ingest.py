"""Storage of readings from polls and pushes. The same readings again change nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

import anyio
import msgspec
import structlog

from bg_ingest.domain.commits import (
    ConnectionSummary,
    ConnectionUpdate,
    Head,
    readings_commit,
    recheck_gaps_from,
    with_summary,
)
from bg_ingest.domain.connections import Connection, PollDefaults
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.polling import Outcome, PollResult
from bg_ingest.domain.readings import Origin, Reading
from bg_ingest.domain.segments import Decision, decide, segment_start, split_batch
from bg_ingest.errors import Fenced, StaleRead
from bg_ingest.ports import Capabilities, Clock, Observer, Page
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.polling.quarantine import Quarantine
from bg_ingest.services.retrying import retrying
from bg_ingest.store.segments import ReadingStore

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MAX_RETRY_SECONDS = 5.0
"""Time for which a commit that loses races is repeated before the caller gives up until its next poll."""


class Ingester:
    """Stores batches of readings of any origin."""

    def __init__(
        self,
        readings: ReadingStore,
        quarantine: Quarantine,
        committer: Committer,
        observer: Observer,
        clock: Clock,
        capabilities: Mapping[str, Capabilities],
        defaults: PollDefaults,
    ) -> None:
        self._readings = readings
        self._quarantine = quarantine
        self._committer = committer
        self._observer = observer
        self._clock = clock
        self._capabilities = capabilities
        self._defaults = defaults
        self._user_locks: WeakValueDictionary[UserId, anyio.Lock] = WeakValueDictionary()

    async def ingest(
        self, connection: Connection, page: Page, *, origin: Origin, after: Connection | None = None
    ) -> tuple[PollResult, Connection]:
        """Store a page in as few commits as possible, oldest first; return its counts and the connection after it.

        ``after`` is the connection to store with the last commit. Its watermark rises with every commit, so that little
        is repeated after a crash in between. Without it (a push) the commits only check that the connection still
        accepts pushes. StoreUnavailable, or Fenced if the connection has changed: commits made until then
        stay.
        """
        result = await self._quarantine.add(connection, page.unreadable)
        batches = list(split_batch(page.readings))
        for number, batch in enumerate(batches, 1):
            update = ConnectionUpdate(connection, connection)
            if after is not None:
                reached = with_progress(connection, batch, self._clock.now())
                reached = msgspec.structs.replace(reached, suspected_gap_at=after.suspected_gap_at)
                update = ConnectionUpdate(
                    connection, _merge_progress(reached, after) if number == len(batches) else reached
                )
            async with self._user_lock(connection.id.user):
                stored = await self._commit(update, batch, origin)
            if stored.outcome is Outcome.READ:
                connection = update.after
            result = result.merge(stored)
        self._observer.ingested(connection.id, origin, result)
        return result, connection

    def _user_lock(self, user: UserId) -> anyio.Lock:
        """Return the lock for one commit of a user at a time in this process.

        A burst of pushes would lose races against itself.
        """
        return self._user_locks.setdefault(user, anyio.Lock())

    @retrying(StaleRead, deadline=MAX_RETRY_SECONDS, first_wait=0.01, max_wait=0.64)
    async def _commit(self, update: ConnectionUpdate, batch: Sequence[Reading], origin: Origin) -> PollResult:
        starts = {segment_start(reading.measured_at) for reading in batch}
        user = update.after.id.user
        head, known = await self._readings.read(user, starts)
        if head is None or head.erased:
            raise Fenced
        at = head.next_recorded_at(self._clock.now())
        decision = decide(known, batch, at=at, last_change=head.last_change)
        quarantined = await self._quarantine.add(update.before or update.after, decision.rejected)
        provider = update.after.id.provider
        checked_until = head.gaps_checked_until.get(provider)
        late = sum(
            checked_until is not None and stored.reading.measured_at < checked_until for stored in decision.recorded
        )
        counts = PollResult(Outcome.READ, len(decision.recorded), len(decision.revised), decision.duplicates, late=late)
        if not decision.segments:
            return quarantined.merge(msgspec.structs.replace(counts, outcome=Outcome.NOTHING_NEW))
        commit = readings_commit(
            head,
            known,
            decision,
            provider=provider,
            origin=_origin(update.before, decision, origin),
            at=at,
        )
        # a push leaves the summary alone, because its connection may have been read before a pause
        after = commit.head if update.before == update.after else self._summarize(commit.head, update.after)
        after = recheck_gaps_from(after, provider, decision.recorded)
        commit = msgspec.structs.replace(commit, connection_update=update, head=after)
        await self._committer.commit(commit)
        return quarantined.merge(counts)

    def _summarize(self, head: Head, connection: Connection) -> Head:
        return with_summary(head, connection.id.provider, self.summarize(connection))

    def summarize(self, connection: Connection) -> ConnectionSummary:
        """Return the part of a connection that ``latest`` needs."""
        capabilities = self._capabilities[connection.id.provider]
        cadence = connection.cadence_seconds or capabilities.cadence.total_seconds()
        return ConnectionSummary(
            connection.state,
            int(cadence),
            int(capabilities.initial_delays[connection.region].total_seconds()),
            int(self._defaults.interval(connection.worker) / timedelta(seconds=1)),
        )


def with_progress(connection: Connection, batch: Sequence[Reading], now: datetime) -> Connection:
    """Return the connection with the progress of stored readings (ascending).

    The watermark never falls. It does not rise beyond ``now`` either, because a sensor's clock may be a little ahead.
    """
    if not batch:
        return connection
    newest = batch[-1].measured_at
    reached = min(newest, now)
    return msgspec.structs.replace(
        connection,
        watermark=max(connection.watermark or reached, reached),
        newest_reading_at=max(connection.newest_reading_at or newest, newest),
    )


def _merge_progress(reached: Connection, after: Connection) -> Connection:
    return msgspec.structs.replace(
        after,
        watermark=max(filter(None, (reached.watermark, after.watermark)), default=None),
        newest_reading_at=reached.newest_reading_at,
    )


def _origin(before: Connection | None, decision: Decision, origin: Origin) -> Origin:
    """Return OVERLAP for the late readings of a live poll, which lie before its watermark."""
    watermark = before.watermark if before else None
    late = watermark is not None and all(stored.reading.measured_at < watermark for stored in decision.recorded)
    return Origin.OVERLAP if origin is Origin.LIVE and late and decision.recorded else origin
