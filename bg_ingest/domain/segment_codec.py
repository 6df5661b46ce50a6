"""Column format of stored readings, at most 10 bytes per reading.

Plain columns take about 25 bytes. Repeated facts are written once: the device, the commit (``recorded_at`` and change
number), runs of equal values. A time is stored as its distance from the previous time, minus the cadence; a value as
its difference from the previous value. The layout consists of MessagePack arrays. New elements are only appended, so
that an older program can ignore them.

    [base, devices, words, commits, streams]
    commits = [[ms since base, ...], [change, ...]]       each number as its difference from the previous number
    stream  = [device, count, cadence, times, values, flags, trends, scale, rates, offsets, commits, sent, earlier]

``base`` is in epoch seconds; ``words`` lists the distinct trends. In a stream, the device, the trends and the commits
are indexes in ``devices``, ``words`` and ``commits``. A column is one value if all cells are equal, two lists (values,
lengths) if runs are long, and otherwise the plain list.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate, chain, count, groupby, repeat
from operator import add, attrgetter, sub
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import astuple

from bg_ingest.domain.readings import AsSent, Device, Flag, Reading, StoredReading, Version

Column: TypeAlias = int | float | list[Any] | None

_DEVICE_PARTS = len(Device.__struct_fields__)
_FLAGS = (Flag.OK, Flag.LOW, Flag.HIGH)
_SCALED_RATE_LIMIT = 1e9
"""A stream with a rate of this size or more, or an infinite rate, stores all its rates unchanged. Scaled to a whole
number, such a rate could be too large for MessagePack."""

_HEX = re.compile(r"(?:[0-9a-f]{2}){8,}\Z")
_measured_at: Callable[[StoredReading], datetime] = attrgetter("reading.measured_at")
_encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(list[Any]).decode


def pack(readings: Sequence[StoredReading]) -> bytes:
    """Encode readings. ``unpack`` returns equal readings in ascending order."""
    base = to_epoch_seconds(min(map(_measured_at, readings))) if readings else 0
    words: dict[str | None, int] = {}
    commits = sorted({(stored.recorded_at, stored.change) for stored in readings})
    numbers = {commit: number for number, commit in enumerate(commits)}
    by_device: dict[Device, list[StoredReading]] = {}
    for stored in readings:
        by_device.setdefault(stored.reading.device, []).append(stored)
    devices = sorted(by_device, key=lambda device: (device_key(device), device.transmitter is None))
    streams = [
        _pack_stream(number, sorted(by_device[device], key=_measured_at), base, words, numbers)
        for number, device in enumerate(devices)
    ]
    packed_devices = [[_compress_hex(part) for part in astuple(device)] for device in devices]
    recorded = _differences([to_epoch_ms(recorded_at) - base * 1000 for recorded_at, _ in commits])
    changes = _differences([change for _, change in commits])
    return _encode([base, packed_devices, list(words), [recorded, changes], streams])


def unpack(packed: bytes) -> tuple[StoredReading, ...]:
    """Decode readings, ascending by time, then by device."""
    parts = decode(packed)
    base, devices, words, _, streams, *_ = parts
    stored_commits = decode_commits(parts)
    readings: list[StoredReading] = []
    for stream in streams:
        device = decode_device(devices[stream[0]])
        readings.extend(_unpack_stream(stream, base, device, words, stored_commits))
    return tuple(readings) if len(streams) == 1 else sort_readings(readings)


@lru_cache(maxsize=4_096)
def unpack_one(packed: bytes) -> StoredReading:
    """Return the only reading of a packed segment. The cache holds up to 4,096 readings, about 5 MB."""
    return unpack(packed)[0]


def decode_commits(parts: list[Any]) -> list[tuple[datetime, int]]:
    """Return time and change number of each commit in a decoded segment."""
    base, _, _, (recorded, changes, *_), *_ = parts
    return [
        (datetime.fromtimestamp((base * 1000 + at) / 1000, UTC), change)
        for at, change in zip(accumulate(recorded), accumulate(changes), strict=True)
    ]


def sort_readings(readings: Iterable[StoredReading]) -> tuple[StoredReading, ...]:
    return tuple(sorted(readings, key=lambda stored: (stored.reading.measured_at, *device_key(stored.reading.device))))


def to_epoch_seconds(instant: datetime) -> int:
    return int(instant.timestamp())


def to_epoch_ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _pack_stream(
    device: int,
    readings: list[StoredReading],
    base: int,
    words: dict[str | None, int],
    commits: dict[tuple[datetime, int], int],
) -> list[Any]:
    times = _differences([to_epoch_seconds(stored.reading.measured_at) - base for stored in readings])
    cadence = Counter(times[1:]).most_common(1)[0][0] if len(times) > 1 else 0
    rates = [stored.reading.trend_rate_mg_dl_min for stored in readings]
    scale = _scale(rates)
    return [
        device,
        len(readings),
        cadence,
        _column([times[0], *(difference - cadence for difference in times[1:])]),
        _column(_differences([stored.reading.glucose_mg_dl for stored in readings])),
        _column([_FLAGS.index(stored.reading.flag) for stored in readings]),
        _column([words.setdefault(stored.reading.trend, len(words)) for stored in readings]),
        scale,
        _column([rate if rate is None or not scale else round(rate * scale) for rate in rates]),
        _column([stored.reading.utc_offset_seconds for stored in readings]),
        _column([commits[stored.recorded_at, stored.change] for stored in readings]),
        {index: astuple(stored.reading.sent) for index, stored in enumerate(readings) if stored.reading.sent},
        {index: list(map(_pack_version, stored.earlier)) for index, stored in enumerate(readings) if stored.earlier},
    ]


def _unpack_stream(
    stream: list[Any], base: int, device: Device, words: list[str | None], stored_commits: list[tuple[datetime, int]]
) -> Iterable[StoredReading]:
    _, length, cadence, times, values, flags, trends, scale, rates, offsets, commits, sent, earlier, *_ = stream
    columns = (flags, trends, rates, offsets, commits)
    points = times_and_values(length, cadence, times, values, base)
    rows = zip(*points, *(cells(column, length) for column in columns), strict=True)
    for index, (at, value, flag, trend, rate, offset, commit) in enumerate(rows):
        reading = Reading(
            datetime.fromtimestamp(at, UTC),
            value,
            _FLAGS[flag],
            device,
            words[trend],
            rate / scale if scale and rate is not None else rate,
            offset,
            AsSent(*sent[index][:2]) if index in sent else None,
        )
        versions = tuple(_unpack_version(version) for version in earlier[index]) if index in earlier else ()
        recorded_at, change = stored_commits[commit]
        yield StoredReading(reading, recorded_at, change, versions)


def times_and_values(
    length: int, cadence: int, times: Column, values: Column, base: int
) -> tuple[Iterable[int], Iterable[int]]:
    """Return the epoch seconds and the values (mg/dL) of a stream."""
    seconds = map(add, accumulate(cells(times, length)), count(base, cadence))
    return seconds, accumulate(cells(values, length))


def _column(numbers: list[Any]) -> Column:
    constant: int | float | None = numbers[0]
    if numbers.count(constant) == len(numbers):
        return constant
    runs = [(cell, len(list(run))) for cell, run in groupby(numbers)]
    if 2 * len(runs) + 2 < len(numbers):
        return [[cell for cell, _ in runs], [length for _, length in runs]]
    return numbers


def cells(column: Column, length: int) -> Iterable[Any]:
    """Return the cells of a column of this length."""
    if not isinstance(column, list):
        return repeat(column, length)
    if has_runs(column):
        return chain.from_iterable(map(repeat, *column))
    return column


def has_runs(column: Column) -> bool:
    """Return True for a column of two lists: the values of the runs, and their lengths."""
    return isinstance(column, list) and isinstance(column[0], list)


def _differences(numbers: Sequence[int]) -> list[int]:
    return list(map(sub, numbers, chain((0,), numbers)))


def _scale(rates: list[float | None]) -> int:
    """Return the factor that makes every rate a whole number (10 for one decimal), or 0 to store rates unchanged."""
    known = [rate for rate in rates if rate is not None]
    if not all(abs(rate) < _SCALED_RATE_LIMIT for rate in known):
        return 0
    exact = (scale for scale in (10, 100, 1000) if all(round(rate * scale) / scale == rate for rate in known))
    return next(exact, 0)


def _pack_version(version: Version) -> list[Any]:
    value, flag, recorded_at, change, *more, sent = astuple(version)
    return [value, _FLAGS.index(flag), to_epoch_ms(recorded_at), change, *more, astuple(sent) if sent else None]


def _unpack_version(packed: list[Any]) -> Version:
    value, flag, at, change, *more = packed
    trend, rate, offset, sent, *_ = more or (None, None, None, None)  # the first stored format has none of these
    recorded_at = datetime.fromtimestamp(at / 1000, UTC)
    return Version(value, _FLAGS[flag], recorded_at, change, trend, rate, offset, AsSent(*sent[:2]) if sent else None)


def _compress_hex(part: str | None) -> str | bytes | None:
    """Encode long hexadecimal ids as bytes, which halves their length."""
    return bytes.fromhex(part) if part and _HEX.match(part) else part


def decode_device(packed: list[Any]) -> Device:
    """Return a device; long hexadecimal ids are stored as bytes."""
    return Device(*(part.hex() if isinstance(part, bytes) else part for part in packed[:_DEVICE_PARTS]))


@lru_cache(maxsize=1_024)
def device_key(device: Device) -> tuple[str, ...]:
    """Return the key that sorts devices among readings of one second."""
    return tuple(part or "" for part in astuple(device))
