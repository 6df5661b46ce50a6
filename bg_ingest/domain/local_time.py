"""Local time of readings: the offset of each one, and the midnights of a zone."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

OWN = "own"
"""Name of the zone in which each reading has its own offset."""

_EPOCH_DAY = date(1970, 1, 1)
_HOUR = 3_600


class Zone:
    """Zone of an answer: one for all readings, or each reading's own offset (UTC if unknown)."""

    def __init__(self, name: str) -> None:
        """Raise ValueError if the name is neither `own`, `UTC` nor a name of the IANA database."""
        if name not in {OWN, "UTC"} and name not in _zone_names():
            raise ValueError(name)
        self.name = name
        self._info = None if name == OWN else ZoneInfo(name)
        self._hour = -1
        self._hour_offset: int | None = None

    def offset(self, second: int, own_offset: int | None) -> int:
        """Return the offset from UTC in seconds at an epoch second. Fast for ascending seconds."""
        if self._info is None:
            return own_offset or 0
        hour = second // _HOUR
        if hour != self._hour:
            first, last = (_offset_at(end, self._info) for end in (hour * _HOUR, hour * _HOUR + _HOUR - 1))
            self._hour, self._hour_offset = hour, first if first == last else None
        return _offset_at(second, self._info) if self._hour_offset is None else self._hour_offset

    def midnight(self, day: int, own_offset: int) -> int:
        """Return the epoch second at which a local day begins; days are counted since the epoch."""
        if self._info is None:
            return day * 86_400 - own_offset
        return int(datetime.combine(day_to_date(day), time(), self._info).timestamp())

    def midnight_of(self, day: date) -> datetime:
        """Return the instant at which a date begins in the zone. In the zone ``own``, a date begins at midnight UTC."""
        return datetime.combine(day, time(), self._info or UTC).astimezone(UTC)

    def day(self, second: int) -> int:
        """Return the local day of an epoch second, counted since the epoch."""
        return (second + self.offset(second, None)) // 86_400


def _offset_at(second: int, zone: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(second, zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def day_to_date(day: int) -> date:
    return _EPOCH_DAY + timedelta(days=day)


@lru_cache(1)
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())
