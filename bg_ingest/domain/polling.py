"""How a look at a provider ended: expected ends are values, only surprises are exceptions."""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum, StrEnum, auto

import msgspec

from bg_ingest.domain.call_budget import CallDemand
from bg_ingest.domain.readings import Origin


class Outcome(StrEnum):
    """The kinds of end, as operators see them."""

    READ = "read"
    """The provider answered; readings were new."""
    NOTHING_NEW = "nothing_new"
    NOT_DUE = "not_due"
    INACTIVE = "inactive"
    """Not a connection to be polled: paused, disconnected, gone."""
    THROTTLED = "throttled"
    BUDGET_SPENT = "budget_spent"
    """No call could be had: others of the app had them all, or everybody pauses."""
    UNAVAILABLE = "unavailable"
    """The provider did not answer, or with an error of its own."""
    MISBEHAVED = "misbehaved"
    """It answered what we cannot read; nothing was moved."""
    FORBIDDEN = "forbidden"
    REFUSED = "refused"
    """It refused the grant; tried again by plan before it is believed."""
    GRANT_BUSY = "grant_busy"
    """Another process is refreshing the grant."""
    STORE_UNAVAILABLE = "store_unavailable"
    UNSEALABLE = "unsealable"
    """None of our keys opens the stored grant: an operator must bring back the key that sealed it."""
    FENCED = "fenced"
    """What we knew of the connection was out of date: somebody else changed or owns it."""


class PollResult(msgspec.Struct, frozen=True, gc=False):
    """How one look or push ended, and what it brought."""

    outcome: Outcome
    recorded: int = 0
    revised: int = 0
    duplicates: int = 0
    quarantined: int = 0
    late: int = 0
    """Of the recorded, those measured before the reading up to which gaps had been judged."""
    not_kept: int = 0
    """Unreadable records that were not kept: their shelf is full."""

    def merge(self, other: "PollResult") -> "PollResult":
        """Return both counted together, under the later one's ending unless only the earlier brought readings."""
        outcome = self.outcome if other.outcome == Outcome.NOTHING_NEW else other.outcome
        return PollResult(
            outcome,
            self.recorded + other.recorded,
            self.revised + other.revised,
            self.duplicates + other.duplicates,
            self.quarantined + other.quarantined,
            self.late + other.late,
            self.not_kept + other.not_kept,
        )


class PollKind(Enum):
    """What a turn can look at, in this order."""

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
    """Why the next turn is due when it is; the last outcome says more of a retry."""

    START = "start"
    """Not yet looked at by this process."""
    SLOT = "slot"
    """The next reading is expected then."""
    SILENCE = "silence"
    """Readings fail to come: looks drift apart, up to an hour."""
    BACKFILL = "past"
    """More of the past waits to be read."""
    RETRY = "retry"
    """The last turn failed."""
    BUDGET = "budget"
    """All calls of the app are spent, or it pauses."""
    REQUESTED = "asked"
    """Somebody asked for a look."""


class GapCheck(msgspec.Struct, frozen=True, gc=False):
    """What this process has surveyed for gaps: surveying again only costs a little."""

    silence_after: datetime | None = None
    """The silence after this reading has had one."""
    due: bool = False
    """Whether one is to be taken in the next turn that has nothing to ask."""


class PollState(msgspec.Struct, frozen=True, gc=False):
    """What one turn leaves to the next, in memory: losing it costs a look too many, nothing else."""

    poll_at: datetime | None = None
    """When the next look for new readings is due; unknown after a start."""
    failures: int = 0
    """Turns in a row that failed."""
    reason: NextPollReason = NextPollReason.START
    visible_at: datetime | None = None
    """When the provider showed the newest reading (without any: could have, from the connect on); how long ago that
    is, is how stale the connection is."""
    gap_check: GapCheck = GapCheck()
    backfill_pending: bool = False
    """Whether some of the past is still to be read, as of the last turn."""


class PollReport(msgspec.Struct, frozen=True, gc=False):
    """How a turn ended, and when the next is due: never, where due is None."""

    result: PollResult
    due: datetime | None
    state: PollState = PollState()
    origin: Origin | None = None
    """What it asked the provider for; None when it asked nothing."""
    demand: CallDemand | None = None
    """How many calls the connection wants from now on, where the turn came to know."""
