"""What was known at some point: the answer that would have been given then, whatever came later."""

from datetime import datetime, timedelta

import msgspec

from bg_ingest.domain.readings import StoredReading

SETTLED_AFTER = timedelta(minutes=1)
"""How long a commit may take from choosing its ``recorded_at`` until it is seen, with what clocks of replicas differ
by: before that, what was known at a time may still grow."""


class AsOf(msgspec.Struct, frozen=True):
    """The last that counts as known. A user's changes rise in number and in time together, so either says it."""

    change: int | None = None
    """A change number: exact."""
    before: datetime | None = None
    """Not included. ``recorded_at`` is shown in whole seconds, and what is shown as that second counts: see ``at``."""

    @classmethod
    def at(cls, instant: datetime) -> "AsOf":
        """Return what was known when the second of an instant was over."""
        return cls(before=instant.replace(microsecond=0) + timedelta(seconds=1))

    def includes(self, recorded_at: datetime, change: int) -> bool:
        return (self.change is None or change <= self.change) and (self.before is None or recorded_at < self.before)

    def apply(self, recorded: StoredReading) -> StoredReading | None:
        """Return a reading with the value it had; None while it was not there."""
        if self.includes(recorded.recorded_at, recorded.change):
            return recorded
        for index in reversed(range(len(recorded.earlier))):
            version = recorded.earlier[index]
            if self.includes(version.recorded_at, version.change):
                return recorded.at_version(index)
        return None
