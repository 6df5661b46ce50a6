"""Pure translation of Dexcom's records into domain values; the current time is a parameter."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import msgspec

from bg_ingest.domain.readings import (
    MAX_DISPLAYED_MG_DL,
    MG_DL_PER_MMOL_L,
    MIN_DISPLAYED_MG_DL,
    MIN_MEASURED_AT,
    AsSent,
    Device,
    Flag,
    Reading,
    Unreadable,
    clamp_to_range,
)
from bg_ingest.domain.windows import Window
from bg_ingest.ports import AccountData
from bg_ingest.providers.dexcom.page import Candidate
from bg_ingest.providers.dexcom.times import Stamp, parse_stamp, utc_offset_seconds
from bg_ingest.providers.dexcom.wire import (
    DataRange,
    Egv,
    Envelope,
    Extent,
    RangeBound,
    Scalar,
    contradicts_itself,
    decode_record,
)
from bg_ingest.providers.http import decode_json

FUTURE_TOLERANCE = timedelta(minutes=15)
"""Accepted lead of a device's clock over ours. A reading further ahead would stop polling until its time."""

MAX_MG_DL = 1000
"""Highest value of any sensor, according to Tidepool. Values from 401 on are stored as HIGH."""

MAX_MG_DL_PER_MINUTE = 100
"""Largest rate (mg/dL per minute), rising or falling: far beyond physiology, and a number that every store accepts."""

MAX_TEXT_CHARACTERS = 64
"""Longest text of a record, the length of ``transmitterId``. Texts are stored with each segment and sent to readers."""

Reason: TypeAlias = Literal[
    "not_a_record",
    "repeated_field",
    "no_time",
    "bad_time",
    "ancient",
    "future",
    "no_value",
    "bad_value",
    "unit_unknown",
    "text_too_long",
]
"""Reason of a record's quarantine."""

_UNITS: Mapping[Scalar, float] = {
    "mg/dL": 1.0,
    "mg/dl": 1.0,
    "mmol/L": MG_DL_PER_MMOL_L,
    "mmol/l": MG_DL_PER_MMOL_L,
}
_RATE_UNITS: Mapping[Scalar, float] = {**_UNITS, **{f"{unit}/min": factor for unit, factor in _UNITS.items()}}
"""Factors that convert to mg/dL, by unit as Dexcom spells it and in lower case."""
_OUT_OF_RANGE = {"low": (MIN_DISPLAYED_MG_DL - 1, Flag.LOW), "high": (MAX_DISPLAYED_MG_DL + 1, Flag.HIGH)}


class _InvalidRecord(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def decode_data_range(content: bytes, now: datetime) -> AccountData:
    """Return the account of an answer of dataRange, and the time span of its readings.

    The span is None if neither end has a usable time, or the end precedes the start. If only one end is missing, the
    account has readings: the span then starts at ``MIN_MEASURED_AT``, or ends at ``now``.
    """
    answer = decode_json(content, DataRange)
    return AccountData(answer.user_id, _data_window(answer.egvs or Extent(), now.replace(microsecond=0)))


def translate_records(page: Envelope, now: datetime) -> Iterator[Candidate | Unreadable]:
    """Yield each record of a page, in the page's order."""
    devices: dict[tuple[Scalar, Scalar, Scalar], Device] = {}
    for raw in page.records:
        measured_at = None
        try:
            egv = _decode_egv(raw)
            measured_at = _measured_at(egv)
            _check_time(measured_at, now)
            names = egv.transmitter_id, egv.display_device, egv.transmitter_generation
            if names not in devices:
                devices[names] = _to_device(page.user_id, *map(_word, names))
            yield Candidate(_to_reading(egv, measured_at, devices[names]), str(egv.record_id or ""), raw)
        except _InvalidRecord as invalid:
            yield Unreadable(invalid.reason, bytes(raw), measured_at)


def _decode_egv(raw: msgspec.Raw) -> Egv:
    content = bytes(raw)
    egv = decode_record(content)
    if egv is None:
        raise _InvalidRecord("not_a_record")
    if contradicts_itself(content):
        raise _InvalidRecord("repeated_field")
    return egv


def _measured_at(egv: Egv) -> datetime:
    if egv.system_time in {None, ""}:
        raise _InvalidRecord("no_time")
    if stamp := _optional_stamp(egv.system_time):
        return stamp.utc
    raise _InvalidRecord("bad_time")


def _check_time(measured_at: datetime, now: datetime) -> None:
    if measured_at < MIN_MEASURED_AT:
        raise _InvalidRecord("ancient")
    if measured_at > now + FUTURE_TOLERANCE:
        raise _InvalidRecord("future")


def _to_reading(egv: Egv, measured_at: datetime, device: Device) -> Reading:
    mg_dl, flag, sent = _glucose(egv)
    display = _optional_stamp(egv.display_time)
    return Reading(
        measured_at,
        mg_dl,
        flag,
        device,
        _trend(egv),
        _rate(egv),
        utc_offset_seconds(display, measured_at) if display else None,
        sent,
    )


def _to_device(provider_account: str, transmitter: str, display: str, generation: str) -> Device:
    return Device("dexcom", provider_account, transmitter or None, display or "unknown", generation or "unknown")


def _glucose(egv: Egv) -> tuple[int, Flag, AsSent | None]:
    value = egv.value
    if value is None:
        raise _InvalidRecord("no_value")
    if isinstance(value, str):
        if side := _OUT_OF_RANGE.get(value.strip().lower()):
            return (*side, None)
        raise _InvalidRecord("bad_value")
    factor = _factor(egv.unit, _UNITS)
    if factor is None:
        raise _InvalidRecord("unit_unknown")
    if isinstance(value, bool) or not 0 < value <= MAX_MG_DL or value * factor > MAX_MG_DL:
        raise _InvalidRecord("bad_value")
    mg_dl, flag = _clamp(value * factor, _word(egv.status).lower())
    return mg_dl, flag, None if factor == 1 and value == mg_dl else AsSent(float(value), _word(egv.unit))


def _clamp(mg_dl: float, status: str) -> tuple[int, Flag]:
    """Clamp values beyond the display range. A value at an end of the range is beyond it if its status says so.

    Any other status that contradicts the number is ignored: 120 never becomes a LOW.
    """
    whole, flag = clamp_to_range(mg_dl)
    if (status == "low" and whole <= MIN_DISPLAYED_MG_DL) or (status == "high" and whole >= MAX_DISPLAYED_MG_DL):
        return _OUT_OF_RANGE[status]
    return whole, flag


def _trend(egv: Egv) -> str | None:
    """Return Dexcom's word, even if it is new to this service; None for the words ``none`` and ``unknown``."""
    word = _word(egv.trend)
    return None if word in {"", "none", "unknown"} else word


def _rate(egv: Egv) -> float | None:
    """Return the rate in mg/dL per minute, converted by ``rate_unit``; None if either field is unusable."""
    rate = egv.trend_rate
    factor = _factor(egv.rate_unit, _RATE_UNITS)
    if (
        rate is None
        or factor is None
        or isinstance(rate, (str, bool))
        or not -MAX_MG_DL_PER_MINUTE <= rate <= MAX_MG_DL_PER_MINUTE
    ):
        return None
    # The sum turns -0.0 into 0.0. The store does not keep the sign of -0.0, and an event published from memory must
    # have the same bytes as the one that is read from the store.
    return 0.0 + (rate if factor == 1 else round(rate * factor, 2))


def _factor(unit: Scalar, factors: Mapping[Scalar, float]) -> float | None:
    return factors.get(unit) or factors.get(_word(unit).lower())


def _word(scalar: Scalar) -> str:
    word = scalar.strip() if isinstance(scalar, str) else ""
    if len(word) > MAX_TEXT_CHARACTERS:
        raise _InvalidRecord("text_too_long")
    return word


def _optional_stamp(scalar: Scalar) -> Stamp | None:
    return parse_stamp(scalar) if isinstance(scalar, str) else None


def _data_window(extent: Extent, now: datetime) -> Window | None:
    start, end = _optional_instant(extent.start), _optional_instant(extent.end)
    if start is None and end is None:
        return None
    start, end = max(start or MIN_MEASURED_AT, MIN_MEASURED_AT), min(end or now, now)
    return Window(start, end + timedelta(seconds=1)) if start <= end else None


def _optional_instant(bound: RangeBound | None) -> datetime | None:
    stamp = _optional_stamp(bound.system_time) if bound else None
    return stamp.utc if stamp else None
