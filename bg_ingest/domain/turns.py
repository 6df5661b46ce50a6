"""What a connection's turn comes to, what it leaves to the next one, and why that is due when it is."""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum, StrEnum, auto

import msgspec

from bg_ingest.domain.budget import Want
from bg_ingest.domain.outcomes import Outcome
from bg_ingest.domain.readings import Origin


class Kind(Enum):
    """What a turn can look at, in this order."""

    NEW = auto()
    AGAIN = auto()
    MISSING = auto()
    PAST = auto()


ORIGINS: Mapping[Kind | None, Origin] = {
    Kind.NEW: Origin.LIVE,
    Kind.AGAIN: Origin.SWEEP,
    Kind.MISSING: Origin.SWEEP,
    Kind.PAST: Origin.BACKFILL,
}


class Why(StrEnum):
    """Why the next turn is due when it is; the last outcome says more of a retry."""

    START = "start"
    """Not yet looked at by this process."""
    SLOT = "slot"
    """The next reading is expected then."""
    SILENCE = "silence"
    """Readings fail to come: looks drift apart, up to an hour."""
    PAST = "past"
    """More of the past waits to be read."""
    RETRY = "retry"
    """The last turn failed."""
    BUDGET = "budget"
    """All calls of the app are spent, or it pauses."""
    ASKED = "asked"
    """Somebody asked for a look."""


class Surveyed(msgspec.Struct, frozen=True, gc=False):
    """What this process has surveyed for gaps: surveying again only costs a little."""

    silence_after: datetime | None = None
    """The silence after this reading has had one."""
    due: bool = False
    """Whether one is to be taken in the next turn that has nothing to ask."""


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What one turn leaves to the next, in memory: losing it costs a look too many, nothing else."""

    look_at: datetime | None = None
    """When the next look for new readings is due; unknown after a start."""
    failures: int = 0
    """Turns in a row that failed."""
    why: Why = Why.START
    shown_at: datetime | None = None
    """When the provider showed the newest reading (without any: could have, from the connect on); how long ago that
    is, is how stale the connection is."""
    surveyed: Surveyed = Surveyed()
    past_left: bool = False
    """Whether some of the past is still to be read, as of the last turn."""


class Turn(msgspec.Struct, frozen=True, gc=False):
    """How a turn ended, and when the next is due: never, where due is None."""

    outcome: Outcome
    due: datetime | None
    plan: Plan = Plan()
    origin: Origin | None = None
    """What it asked the provider for; None when it asked nothing."""
    want: Want | None = None
    """How many calls the connection wants from now on, where the turn came to know."""
