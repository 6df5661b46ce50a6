"""Points of a range as text, put together from tables of minutes, seconds and values.

That is faster than an object and a formatted time for each point.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from bg_ingest.api.formats import JSON, NDJSON, Format, csv_head

Points: TypeAlias = Sequence[tuple[int, int]]
"""Epoch seconds and mg/dL, ascending."""

POINT_NAMES = ("timestamp", "glucose_mg_dl")

_DAY_SECONDS = 86_400
_MINUTES = [f"{minute // 60:02}:{minute % 60:02}:" for minute in range(1_440)]
_SECONDS = [f"{second:02}Z" for second in range(60)]


class _Endings(dict[int, str]):
    """End of a point's text, after its time, by value. Values are few: no provider has a value above 1,000 mg/dL."""

    def __init__(self, between: str, after: str) -> None:
        self._between = between
        self._after = after

    def __missing__(self, value: int) -> str:
        text = self[value] = f"{self._between}{value}{self._after}"
        return text


def _points_encoder(before: str, between: str, after: str, separator: str = "") -> Callable[[Points], bytes]:
    """Return an encoder of points. The first three texts enclose the time and the value of each point."""
    endings = _Endings(between, after)

    def encode(points: Points) -> bytes:
        lines: list[str] = []
        for start, day_points in _split_days(points):
            opening = f"{before}{datetime.fromtimestamp(start, UTC).date()}T"
            lines += [
                f"{opening}{_MINUTES[(second - start) // 60]}{_SECONDS[second % 60]}{endings[value]}"
                for second, value in day_points
            ]
        return separator.join(lines).encode()

    return encode


def _split_days(points: Points) -> Iterator[tuple[int, Points]]:
    """Yield the first second of each day (UTC) and the points of the day."""
    while points:
        start = points[0][0] // _DAY_SECONDS * _DAY_SECONDS
        if points[-1][0] < start + _DAY_SECONDS:  # nearly all segments, which are not copied then
            yield start, points
            return
        index = bisect_left(points, (start + _DAY_SECONDS,))
        yield start, points[:index]
        points = points[index:]


_OBJECT = f'{{"{POINT_NAMES[0]}":"', f'","{POINT_NAMES[1]}":'

JSON_POINTS = Format(JSON.media_type, JSON.opening, _points_encoder(*_OBJECT, "}", ","), JSON.separator, JSON.closing)
NDJSON_POINTS = Format(NDJSON.media_type, NDJSON.opening, _points_encoder(*_OBJECT, "}\n"))
CSV_POINTS = Format(*csv_head(POINT_NAMES), _points_encoder("", ",", "\r\n"))
