"""Parser of Clarity exports (CSV) in any language: units, the type ``EGV``, times and headers identify the columns."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from itertools import islice
from typing import NamedTuple

from bg_ingest.domain.files.contents import FileRefused, ReadingFile, RowLeftOut, RowReason
from bg_ingest.domain.files.glucose import GlucoseUnit, decide_unit, parse_glucose, unit_of
from bg_ingest.domain.files.instants import LocalTime, to_instants
from bg_ingest.domain.files.text import read_rows
from bg_ingest.domain.files.times import DateOrder, choose_date_order, parse_local_time
from bg_ingest.domain.readings import MIN_MEASURED_AT, Device, Identity, Reading

_TYPE = "EGV"
"""Event type of a row with a sensor's reading, the same in every language seen."""

_GLUCOSE_AFTER_TYPE = 5
_TICKS_AFTER_GLUCOSE = 5
"""Number of columns from the type to the glucose, and from the glucose to the transmitter's clock (ticks), in every
language. Used if the header does not identify these columns."""

_HEADER_LINES = 30
_ROWS_TO_SNIFF = 200
_MAX_NAME = 100
"""Longest name of a device or transmitter, in characters."""

_GLUCOSE = re.compile(r"gl[uy][ck]|gli[ck]", re.IGNORECASE)
_DISPLAY = re.compile(r"source|quell|origin|origen|bron", re.IGNORECASE)
_TRANSMITTER = re.compile(r"trans?m|tras?m", re.IGNORECASE)


class _Columns(NamedTuple):
    type: int
    time: int
    glucose: int
    display: int
    ticks: int
    transmitter: int
    header_length: int
    """Number of fields of the header; 0 without a header."""
    usual_length: int
    """Number of fields of most rows with a reading."""


class _Row(NamedTuple):
    """Row of a reading, with its fields as text."""

    line: int
    time: str
    value: str
    display: str
    ticks: int | None
    transmitter: str


def read_clarity(content: bytes, zone: tzinfo) -> ReadingFile:
    """Return the contents of an export whose local times are in `zone`. Raise FileRefused if no row can be read."""
    rows = read_rows(content)
    header_line, header = _find_header(rows)
    columns = _find_columns(header, [row for row in rows if _TYPE in map(str.upper, row)])
    left_out: dict[int, RowReason] = {}
    found: list[_Row] = []
    ignored = 0
    for line, row in enumerate(rows, 1):
        if not any(row) or line == header_line:
            continue
        picked = _pick(line, row, columns)
        if isinstance(picked, _Row):
            found.append(picked)
        elif picked is None:
            ignored += 1
        else:
            left_out[line] = picked
    unit = _unit(header[columns.glucose] if columns.glucose < len(header) else "", [row.value for row in found])
    order = _date_order([row.time for row in found])
    readings, uncertain = _to_readings(found, unit, order, zone, left_out)
    outcomes = tuple(RowLeftOut(line, reason) for line, reason in sorted(left_out.items()))
    return ReadingFile(tuple(readings), outcomes, ignored, uncertain)


def _find_header(rows: Sequence[list[str]]) -> tuple[int, list[str]]:
    """Return line and fields of the first row with a glucose unit, else of the first row that names glucose.

    Line 0 if there is neither.
    """
    first = list(islice(((line, row) for line, row in enumerate(rows, 1) if any(row)), _HEADER_LINES))
    for is_glucose in (unit_of, _GLUCOSE.search):
        for line, row in first:
            if len(row) > 1 and _TYPE not in row and any(is_glucose(field) for field in row):
                return line, row
    return 0, []


def _find_columns(header: Sequence[str], readings: Sequence[Sequence[str]]) -> _Columns:
    if not readings:
        if header:
            raise FileRefused("has no EGV row: give a CSV export with sensor readings from the Clarity site.")
        raise FileRefused("is no Clarity export: export the readings as CSV from the Clarity site.")
    readings = [row for row in readings if len(row) == len(header)] or readings  # others may be cut or shifted
    kind = _most_common(index for row in readings for index, field in enumerate(row) if field.upper() == _TYPE)
    units = [index for index, field in enumerate(header) if unit_of(field)]
    names = [index for index, field in enumerate(header) if _GLUCOSE.search(field)]
    glucose = next(iter(units or names), kind + _GLUCOSE_AFTER_TYPE)
    times = (
        index
        for row in islice(readings, _ROWS_TO_SNIFF)
        for index, field in enumerate(row)
        if any(parse_local_time(field, order) for order in ("dmy", "mdy"))
    )
    ticks, transmitter = _transmitter_columns(header, glucose)
    return _Columns(
        kind,
        _most_common(times, kind - 1),
        glucose,
        _display_column(header, kind, glucose),
        ticks,
        transmitter,
        len(header),
        _most_common(map(len, readings)),
    )


def _display_column(header: Sequence[str], kind: int, glucose: int) -> int:
    """Return the column of the display device that the header names, else the one before the glucose.

    -1 if the header names none and the glucose is not in its usual column.
    """
    named = next((index for index, field in enumerate(header) if _DISPLAY.search(field)), None)
    if named is not None:
        return named
    return glucose - 1 if glucose == kind + _GLUCOSE_AFTER_TYPE else -1


def _transmitter_columns(header: Sequence[str], glucose: int) -> tuple[int, int]:
    """Return the columns of the transmitter's clock and of its id.

    Only the header of the clock has brackets, around a data type: ``Transmitter Time (Long Integer)``.
    """
    named = [index for index, field in enumerate(header) if _TRANSMITTER.search(field)]
    ticks = [index for index in named if "(" in header[index]]
    ids = [index for index in named if "(" not in header[index]]
    default = glucose + _TICKS_AFTER_GLUCOSE
    return next(iter(ticks), default), next(iter(ids), default + 1)


def _most_common(numbers: Iterable[int], default: int = 0) -> int:
    """Return the most frequent number, of equally frequent ones the smallest."""
    counts = Counter(numbers)
    return min(counts, key=lambda number: (-counts[number], number), default=default)


def _pick(line: int, row: Sequence[str], columns: _Columns) -> _Row | RowReason | None:
    """Return the fields of a reading, the reason to leave the row out, or None for a row of another type."""

    def field(index: int) -> str:
        return row[index] if 0 <= index < len(row) else ""

    if field(columns.type).upper() != _TYPE:
        is_cut = len(row) <= columns.type and parse_local_time(field(columns.time), "dmy") is not None
        return "not_a_record" if is_cut or any(_TYPE in part for part in row) else None
    if not field(columns.time):
        return "no_time"
    value, shift = field(columns.glucose), 0
    if not value:
        return "no_value"
    if len(row) <= columns.glucose + 1 < columns.usual_length:
        return "not_a_record"  # the value may be cut
    decimals = field(columns.glucose + 1)
    if len(row) > columns.header_length > 0 and value.isdecimal() and decimals.isdecimal():
        value, shift = f"{value}.{decimals}", 1  # a decimal comma without quotes
    display, transmitter = field(columns.display), field(columns.transmitter + shift)
    if max(len(display), len(transmitter)) > _MAX_NAME:
        return "not_a_record"
    ticks = field(columns.ticks + shift)
    is_number = ticks.isascii() and ticks.isdecimal() and len(ticks) <= 10
    return _Row(line, field(columns.time), value, display, int(ticks) if is_number else None, transmitter)


def _unit(header: str, values: Sequence[str]) -> GlucoseUnit:
    """Return the result of ``decide_unit``. Raise FileRefused if it is None."""
    unit = decide_unit(unit_of(header), values)
    if unit is None:
        raise FileRefused(
            "has a doubtful unit: the header of the glucose column must name the unit of the values. "
            "Displays show less than 40 in mmol/L, and 40 or more in mg/dL."
        )
    return unit


def _date_order(times: Sequence[str]) -> DateOrder:
    order = choose_date_order(times)
    if order is None:
        raise FileRefused(
            "does not show whether the day or the month is first: export it again, or write its dates as YYYY-MM-DD."
        )
    return order


def _to_readings(
    rows: Sequence[_Row], unit: GlucoseUnit, order: DateOrder, zone: tzinfo, left_out: dict[int, RowReason]
) -> tuple[list[Reading], int]:
    """Return the readings and the number of uncertain ones. Other rows are added to `left_out`."""
    timed: list[tuple[_Row, datetime]] = []
    for row in rows:
        local = parse_local_time(row.time, order)
        if local is None:
            left_out[row.line] = "bad_time"
        else:
            timed.append((row, local))
    times = [LocalTime(local, row.ticks, (row.transmitter, row.display)) for row, local in timed]
    readings: dict[Identity, Reading] = {}
    uncertain = 0
    for (row, _), instant in zip(timed, to_instants(times, zone), strict=True):
        glucose = parse_glucose(row.value, unit)
        if instant is None:
            left_out[row.line] = "bad_time"
        elif instant.utc < MIN_MEASURED_AT:
            left_out[row.line] = "ancient"
        elif glucose is None:
            left_out[row.line] = "bad_value"
        else:
            value, flag, sent = glucose
            offset = instant.utc_offset_seconds
            reading = Reading(instant.utc, value, flag, _to_device(row), utc_offset_seconds=offset, sent=sent)
            if readings.setdefault(reading.identity, reading) is reading:
                uncertain += instant.uncertain
            else:
                left_out[row.line] = "repeated"
    return sorted(readings.values(), key=_order), uncertain


def _order(reading: Reading) -> tuple[datetime, str, str]:
    return reading.measured_at, reading.device.display, reading.device.transmitter or ""


def _to_device(row: _Row) -> Device:
    name = row.display.lower()
    generation = next((generation for generation in ("g7", "g6", "g5") if generation in name), "unknown")
    return Device("file", "clarity", row.transmitter or None, row.display or "unknown", generation)
