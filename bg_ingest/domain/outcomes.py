"""How a look at a provider ended: expected ends are values, only surprises are exceptions."""

from enum import StrEnum

import msgspec


class Ending(StrEnum):
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


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """How one look or push ended, and what it brought."""

    ending: Ending
    recorded: int = 0
    revised: int = 0
    duplicates: int = 0
    quarantined: int = 0
    late: int = 0
    """Of the recorded, those measured before the reading up to which gaps had been judged."""
    no_room: int = 0
    """Unreadable records that were not kept: their shelf is full."""

    def plus(self, other: "Outcome") -> "Outcome":
        """Return both counted together, under the later one's ending unless only the earlier brought readings."""
        ending = self.ending if other.ending == Ending.NOTHING_NEW else other.ending
        return Outcome(
            ending,
            self.recorded + other.recorded,
            self.revised + other.revised,
            self.duplicates + other.duplicates,
            self.quarantined + other.quarantined,
            self.late + other.late,
            self.no_room + other.no_room,
        )
