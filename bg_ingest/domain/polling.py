"""Kinds and outcomes of polls, and the state between polls. Expected outcomes are values, surprises are exceptions."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from operator import add

import msgspec
from msgspec.structs import astuple, replace

from bg_ingest.domain.call_budget import CallDemand
from bg_ingest.domain.connections import Connection, PollDefaults
from bg_ingest.domain.freshness import overdue_before
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.schedule import Rhythm
from bg_ingest.domain.segments import SEGMENT_HOURS, segment_start


class Outcome(StrEnum):
    """Kinds of end of a poll or push, as shown to operators."""

    READ = "read"
    """The provider answered with new readings."""
    NOTHING_NEW = "nothing_new"
    NOT_DUE = "not_due"
    INACTIVE = "inactive"
    """The connection is not polled: it is deleted, has no grant, or its state is none of ``POLLED_STATES``."""
    THROTTLED = "throttled"
    BUDGET_SPENT = "budget_spent"
    """No call was available: other connections of the app used all of them, or all calls are paused."""
    UNAVAILABLE = "unavailable"
    """The provider did not answer, or reported an error of its own."""
    MISBEHAVED = "misbehaved"
    """The provider's answer is unreadable. The watermark did not move."""
    FORBIDDEN = "forbidden"
    REFUSED = "refused"
    """The provider refused the grant. The refusal is final only after the planned retries."""
    GRANT_BUSY = "grant_busy"
    """Another process is refreshing the grant."""
    STORE_UNAVAILABLE = "store_unavailable"
    UNSEALABLE = "unsealable"
    """None of our keys opens the stored grant. An operator must restore the key that sealed it."""
    FENCED = "fenced"
    """The connection in memory was out of date: another process changed or owns it."""


class PollResult(msgspec.Struct, frozen=True, gc=False):
    """Outcome of a poll or push, and its counts."""

    outcome: Outcome
    recorded: int = 0
    revised: int = 0
    duplicates: int = 0
    quarantined: int = 0
    late: int = 0
    """Recorded readings measured before the time up to which gaps had been checked."""
    not_kept: int = 0
    """Unreadable records that were dropped, because their quarantine page is full."""

    def merge(self, other: "PollResult") -> "PollResult":
        """Add up the counts. The outcome is the later one (of ``other``), unless that is NOTHING_NEW."""
        outcome = self.outcome if other.outcome == Outcome.NOTHING_NEW else other.outcome
        return PollResult(outcome, *map(add, astuple(self)[1:], astuple(other)[1:]))


class PollKind(Enum):
    """Kinds of fetch in a poll, in order of precedence."""

    LIVE = auto()
    SWEEP = auto()
    REPAIR = auto()
    BACKFILL = auto()


ORIGINS: Mapping[PollKind | None, Origin] = {
    PollKind.LIVE: Origin.LIVE,
    PollKind.SWEEP: Origin.SWEEP,
    PollKind.REPAIR: Origin.SWEEP,
    PollKind.BACKFILL: Origin.BACKFILL,
}


class NextPollReason(StrEnum):
    """Reason for the next due time. After a failure the last outcome has the details."""

    START = "start"
    """This process has not polled the connection yet."""
    SLOT = "slot"
    """The next reading is expected at that time."""
    SILENCE = "silence"
    """No readings arrive: the time between polls grows, up to an hour."""
    MORE_TO_READ = "past"
    """A part of the backfill, a sweep, a repair or a gap check is due."""
    RETRY = "retry"
    """The last poll failed."""
    BUDGET = "budget"
    """All calls of the app are spent, or they are paused."""
    REQUESTED = "asked"


REQUEST_SPACING = timedelta(seconds=10)
"""Shortest time between two requested polls of a connection. All connections share the calls of the app, and a
credential of one user may request polls in a loop."""


class GapCheck(msgspec.Struct, frozen=True, gc=False):
    """State of the gap checks in this process. Losing this state costs only a repeated check."""

    silence_after: datetime | None = None
    """Time of the reading before the last checked silence."""
    due: bool = False
    """True if the next poll without a fetch is to check for gaps."""


MAX_BLOCKED = 12
"""Number of consecutive refusals by a firewall or proxy in front of the provider that still count as an outage. Some
outages last for an hour. A further refusal counts as one by the provider itself, so that an operator is alerted."""


class PollState(msgspec.Struct, frozen=True, gc=False):
    """State that one poll leaves to the next, in memory. Losing it costs one superfluous poll."""

    poll_at: datetime | None = None
    """Due time of the next live poll; unknown after a start."""
    failures: int = 0
    """Consecutive failed polls."""
    failure_logged: bool = False
    """True if one of these failed polls was logged. The first poll without a failure then logs the recovery."""
    blocked: int = 0
    """Consecutive polls that something between this service and the provider refused."""
    reason: NextPollReason = NextPollReason.START
    visible_at: datetime | None = None
    """Usual time at which the provider shows the newest reading: its measurement plus the delay. Without a reading, the
    connect replaces the measurement. The age of this instant is the staleness of the connection."""
    gap_check: GapCheck = GapCheck()
    backfill_pending: bool = False
    """True if a part of the backfill window was unread after the last poll."""
    live_at: datetime | None = None
    """Time of the last answered live poll, on the provider's clock. A reading measured before this time but missing in
    the answer was not shown by the provider yet."""
    watermark: datetime | None = None
    """Watermark after the last poll."""

    def segments(self, defaults: PollDefaults, now: datetime) -> Collection[datetime]:
        """Return the segments of the next live poll's window.

        Empty if the poll is not due, or if the window has more than two segments.
        """
        if self.watermark is None or self.poll_at is None or self.poll_at > now:
            return ()
        segments = {segment_start(self.watermark - defaults.overlap), segment_start(now)}
        return segments if max(segments) - min(segments) <= timedelta(hours=SEGMENT_HOURS) else ()


class PollReport(msgspec.Struct, frozen=True, gc=False):
    """Result of a poll, and the due time of the next one."""

    result: PollResult
    due: datetime | None
    """None if no poll follows. Also None in the result of ``Poller.report_without_fetch`` if the first poll has to make
    a request."""
    state: PollState = PollState()
    origin: Origin | None = None
    """Origin of the fetched window; None without a fetch."""
    demand: CallDemand | None = None
    """Calls that the connection needs from now on; None if the poll did not compute them."""


def choose_kind(connection: Connection, defaults: PollDefaults, live_due: datetime, now: datetime) -> PollKind | None:
    """Return the kind of fetch that is due, or None.

    Without any reading the backfill comes first, because its newest window is also the first live poll.
    """
    if connection.newest_reading_at is None and connection.backfill is not None:
        return PollKind.BACKFILL
    if now >= live_due:
        return PollKind.LIVE
    if defaults.sweep(connection, now):
        return PollKind.SWEEP
    if connection.repair_at is not None and connection.repair_at <= now:
        return PollKind.REPAIR
    return PollKind.BACKFILL if connection.backfill else None


def is_silent(connection: Connection, gap_check: GapCheck, rhythm: Rhythm, now: datetime) -> bool:
    """Return True if readings are overdue long enough for a gap, and this silence has not been checked yet."""
    newest = connection.newest_reading_at
    if newest is None or newest == gap_check.silence_after:
        return False
    return newest + rhythm.step < overdue_before(now, rhythm.delay)


def gap_check_after(
    kind: PollKind, connection: Connection, gap_check: GapCheck, rhythm: Rhythm, now: datetime, *, late: bool
) -> GapCheck:
    """Return the state of the gap check after a fetch.

    A check becomes due if readings were late or are missing by now, and at the end of a sweep or of the backfill. A
    suspected gap makes no check due before the end of the backfill, which requires a check anyway.
    """
    backfill_done, suspected_at = connection.backfill is None, connection.suspected_gap_at
    lacks_readings = backfill_done and suspected_at is not None and suspected_at <= overdue_before(now, rhythm.delay)
    reread_done = kind is PollKind.SWEEP or (kind is PollKind.BACKFILL and backfill_done)
    due = gap_check.due or late or lacks_readings or reread_done or is_silent(connection, gap_check, rhythm, now)
    return replace(gap_check, due=due)
