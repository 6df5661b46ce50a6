"""All values of a reading, each with the time and change that replaced it."""

from collections.abc import Iterator
from datetime import datetime

import msgspec

from bg_ingest.domain.readings import StoredReading


class ReadingVersion(msgspec.Struct, frozen=True):
    """One value of a reading. The current value is not superseded.

    A value is valid at T if ``recorded_at`` <= T < ``superseded_at``, in whole seconds.
    """

    stored: StoredReading
    superseded_at: datetime | None = None
    """Time of the commit of the next value, in whole seconds."""
    superseded_by: int | None = None
    """Number of the change that wrote the next value."""


def iter_versions(stored: StoredReading) -> Iterator[ReadingVersion]:
    """Yield the values of a reading, oldest first."""
    for index in range(len(stored.earlier)):
        following = stored.earlier[index + 1] if index + 1 < len(stored.earlier) else stored
        superseded_at = following.recorded_at.replace(microsecond=0)
        yield ReadingVersion(stored.at_version(index), superseded_at, following.change)
    yield ReadingVersion(stored)
