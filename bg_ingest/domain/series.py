"""Series for charts: lowest, mean, highest and number of readings in bins of equal length."""

from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

import msgspec

from bg_ingest.domain.ids import UserId
from bg_ingest.domain.local_time import Zone
from bg_ingest.domain.segment_codec import to_epoch_seconds
from bg_ingest.domain.weighting import GroupTotals
from bg_ingest.domain.windows import Window

BIN_SECONDS: Mapping[str, int] = MappingProxyType(
    {"5m": 300, "15m": 900, "30m": 1_800, "1h": 3_600, "3h": 10_800, "6h": 21_600, "1d": 86_400}
)
"""Length of each bin, ascending."""

MAX_BINS = 10_000
"""Largest number of bins of an answer, if the request gives the bin length."""

DEFAULT_POINTS, MAX_POINTS = 500, 5_000
"""Default and maximum of ``points``, the parameter that limits the number of bins if the bin length is not given."""

_DAY_BIN = "1d"


class Bins:
    """Bins of a window that is widened to whole bins.

    Bins shorter than a day begin at multiples of their length since the epoch, days at the midnights of a zone.
    """

    def __init__(self, window: Window, name: str, zone: Zone) -> None:
        self.seconds = BIN_SECONDS[name]
        numbers = _bin_numbers(window, name, zone)
        bounds = range(numbers.start, numbers.stop + 1)
        if name == _DAY_BIN:
            self.bounds = [zone.midnight(day, 0) for day in bounds]
        else:
            self.bounds = [number * self.seconds for number in bounds]

    @property
    def starts(self) -> list[int]:
        """Epoch seconds at which the bins begin, ascending."""
        return self.bounds[:-1]

    @property
    def window(self) -> Window:
        return Window(*(datetime.fromtimestamp(bound, UTC) for bound in (self.bounds[0], self.bounds[-1])))

    def index(self, second: int) -> int:
        """Return the index in ``starts`` of the bin that contains an epoch second of the window."""
        return bisect_right(self.bounds, second) - 1


def _bin_numbers(window: Window, name: str, zone: Zone) -> range:
    """Return the numbers of the bins that overlap a window: days, or multiples of the length, since the epoch."""
    first, last = to_epoch_seconds(window.start), _ceil(window.end) - 1
    if name == _DAY_BIN:
        return range(zone.day(first), zone.day(last) + 1)
    length = BIN_SECONDS[name]
    return range(first // length, last // length + 1)


def smallest_bin(window: Window, zone: Zone, most: int) -> str | None:
    """Return the name of the shortest bin length that gives at most ``most`` bins; None if even days are too many."""
    return next((name for name in BIN_SECONDS if len(_bin_numbers(window, name, zone)) <= most), None)


def has_too_many(window: Window, name: str, zone: Zone) -> bool:
    return len(_bin_numbers(window, name, zone)) > MAX_BINS


class Series(msgspec.Struct, frozen=True):
    """Columns of equal length, one row for each bin. Bins without readings have null values."""

    user_id: str
    bin_seconds: int
    t: list[int]
    min: list[int | None]
    mean: list[float | None]
    max: list[int | None]
    n: list[int]


def collect_series(user: UserId, bins: Bins, groups: Mapping[int, GroupTotals]) -> Series:
    """Return the columns of all bins from the totals of the bins with readings."""
    rows = [groups.get(number) or GroupTotals() for number in range(len(bins.starts))]
    means = [totals.histogram.mean() for totals in rows]
    return Series(
        user_id=user,
        bin_seconds=bins.seconds,
        t=bins.starts,
        min=[totals.histogram.lowest for totals in rows],
        mean=[None if mean is None else round(mean, 2) for mean in means],
        max=[totals.histogram.highest for totals in rows],
        n=[totals.histogram.count for totals in rows],
    )


def _ceil(instant: datetime) -> int:
    second = to_epoch_seconds(instant)
    return second + (instant.microsecond > 0)
