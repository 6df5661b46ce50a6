"""Answers as of an earlier point: later changes are left out."""

from datetime import datetime, timedelta

import msgspec

from bg_ingest.domain.readings import StoredReading

SETTLED_AFTER = timedelta(minutes=1)
"""Bound on the time from the choice of ``recorded_at`` until the commit is visible, plus the clock differences of
replicas. Before it has passed, the answer as of a time may still grow."""


class AsOf(msgspec.Struct, frozen=True):
    """Last known change. A user's changes rise in number and in time together, so that either identifies it."""

    change: int | None = None
    """Number of the last change, exact."""
    before: datetime | None = None
    """Exclusive bound. ``recorded_at`` is shown in whole seconds, and all of the shown second is included: see
    ``at``."""

    @classmethod
    def at(cls, instant: datetime) -> "AsOf":
        """Return the point at the end of an instant's second."""
        return cls(before=instant.replace(microsecond=0) + timedelta(seconds=1))

    def includes(self, recorded_at: datetime, change: int) -> bool:
        return (self.change is None or change <= self.change) and (self.before is None or recorded_at < self.before)

    def apply(self, recorded: StoredReading) -> StoredReading | None:
        """Return a reading with its value at the point; None if it did not exist yet."""
        if self.includes(recorded.recorded_at, recorded.change):
            return recorded
        for index in reversed(range(len(recorded.earlier))):
            version = recorded.earlier[index]
            if self.includes(version.recorded_at, version.change):
                return recorded.at_version(index)
        return None
