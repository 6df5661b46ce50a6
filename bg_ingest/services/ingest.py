"""Keep what a look or a push brought: the same again changes nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from random import uniform
from weakref import WeakValueDictionary

import anyio
import msgspec
import structlog

from bg_ingest.domain.commits import Head, Standing, Step, judged_until, readings_commit, with_standing
from bg_ingest.domain.connections import Connection, Defaults
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.outcomes import Ending, Outcome
from bg_ingest.domain.readings import Origin, Reading
from bg_ingest.domain.segments import Decision, decide, parts, segment_start
from bg_ingest.errors import Fenced, Outdated, StoreUnavailable
from bg_ingest.ports import Capabilities, Clock, Hints, Page, Readings
from bg_ingest.services.commit import TRIES, try_commit
from bg_ingest.services.shelve import Shelving

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PATIENCE = 5.0
"""Seconds for which a commit that loses races is tried before the caller's next turn."""


class Ingest:
    """Keeps batches of readings, wherever they come from."""

    def __init__(
        self,
        readings: Readings,
        shelving: Shelving,
        clock: Clock,
        hints: Hints,
        capabilities: Mapping[str, Capabilities],
        defaults: Defaults,
    ) -> None:
        self._readings = readings
        self._shelving = shelving
        self._clock = clock
        self._hints = hints
        self._capabilities = capabilities
        self._defaults = defaults
        self._writers: WeakValueDictionary[UserId, anyio.Lock] = WeakValueDictionary()

    async def keep(
        self, connection: Connection, page: Page, *, origin: Origin, after: Connection | None = None
    ) -> tuple[Outcome, Connection]:
        """Store a page in as few commits as it may take, oldest first; return what was new and the connection after.

        ``after`` is how the connection shall be once all is stored; its watermark rises with every commit, so that a
        crash between two repeats little. Without it (a push) the connection is only held to take pushes still.
        StoreUnavailable, or Fenced when the connection is no longer as given: what was committed until then stays.
        """
        outcome = await self._shelving.keep(connection, page.unreadable)
        batches = list(parts(page.readings))
        for number, batch in enumerate(batches, 1):
            step = Step(connection, connection)
            if after is not None:
                reached = risen(connection, batch, self._clock.now())
                reached = msgspec.structs.replace(reached, lacks_until=after.lacks_until)
                step = Step(connection, _merged(reached, after) if number == len(batches) else reached)
            async with self._writing(connection.id.user):
                stored = await self._commit(step, batch, origin)
            if stored.ending is Ending.READ:
                connection = step.after
            outcome = outcome.plus(stored)
        return outcome, connection

    def _writing(self, user: UserId) -> anyio.Lock:
        """One commit of a user at a time in this process: a burst of pushes would lose races against itself."""
        return self._writers.setdefault(user, anyio.Lock())

    async def _commit(self, step: Step, batch: Sequence[Reading], origin: Origin) -> Outcome:
        starts = {segment_start(each.measured_at) for each in batch}
        user = step.after.id.user
        give_up_at = anyio.current_time() + PATIENCE
        for attempt in range(TRIES):
            head, known = await self._readings.known(user, starts)
            if head is None or head.erased:
                raise Fenced
            at = head.next_instant(self._clock.now())
            decision = decide(known, batch, at=at, last_change=head.last_change)
            shelved = await self._shelving.keep(step.before or step.after, decision.refused)
            provider = step.after.id.provider
            judged = head.judged.get(provider)
            late = sum(judged is not None and each.reading.measured_at < judged for each in decision.recorded)
            counts = Outcome(Ending.READ, len(decision.recorded), len(decision.revised), decision.duplicates, late=late)
            if not decision.segments:
                return shelved.plus(msgspec.structs.replace(counts, ending=Ending.NOTHING_NEW))
            commit = readings_commit(
                head,
                known,
                decision,
                provider=provider,
                origin=_seen_from(step.before, decision, origin),
                at=at,
            )
            # a push does not speak for the connection: it may have read it before a pause
            after = commit.head if step.before == step.after else self._standing(commit.head, step.after)
            after = judged_until(after, provider, decision.recorded)
            commit = msgspec.structs.replace(commit, step=step, head=after)
            try:
                await try_commit(self._readings, commit)
            except Outdated:
                if anyio.current_time() > give_up_at:
                    break
                await anyio.sleep(uniform(0, 0.01 * 2 ** min(attempt, 6)))
                continue
            self._hints.told(commit.changes)
            return shelved.plus(counts)
        raise StoreUnavailable("too many writers at once")

    def _standing(self, head: Head, connection: Connection) -> Head:
        return with_standing(head, connection.id.provider, self.standing(connection))

    def standing(self, connection: Connection) -> Standing:
        """Return what ``latest`` has to know of a connection."""
        capabilities = self._capabilities[connection.id.provider]
        cadence = connection.cadence_seconds or capabilities.cadence.total_seconds()
        return Standing(
            connection.state,
            int(cadence),
            int(capabilities.regions[connection.region].total_seconds()),
            int(self._defaults.interval(connection.worker) / timedelta(seconds=1)),
        )


def risen(connection: Connection, batch: Sequence[Reading], now: datetime) -> Connection:
    """Return the connection with what stored readings (ascending) move.

    The watermark never falls, nor does it rise beyond now: a sensor's clock may be a little ahead.
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


def _merged(reached: Connection, after: Connection) -> Connection:
    return msgspec.structs.replace(
        after,
        watermark=max(filter(None, (reached.watermark, after.watermark)), default=None),
        newest_reading_at=reached.newest_reading_at,
    )


def _seen_from(before: Connection | None, decision: Decision, origin: Origin) -> Origin:
    """A poll's late readings, those before its watermark, are the overlap's."""
    watermark = before.watermark if before else None
    late = watermark is not None and all(each.reading.measured_at < watermark for each in decision.recorded)
    return Origin.OVERLAP if origin is Origin.LIVE and late and decision.recorded else origin
