"""Independent decoder of Dexcom's records: written by hand from the documented facts, sharing no code.

It is lenient if the facts leave a point open: its results may be stored. ``plain`` is strict: its results must be
stored.
"""

import json
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

NUMBERS = (int, float)
MAX_TEXT = 64
PER_MMOL_L = Decimal("18.01559")
_FIELDS = re.compile(r"\d+")
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)?:?(\d\d)?\Z")
_PLAIN_TIME = re.compile(r"20[12]\d-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ\Z")
_PLAIN_TRANSMITTER = re.compile(r"[0-9a-f]{64}\Z")


class Decoded(NamedTuple):
    """Epoch seconds, mg/dL, ``ok``, ``low`` or ``high``, transmitter, display device."""

    second: int
    mg_dl: int
    flag: str
    transmitter: str | None
    display: str


class Ambiguous(dict[str, Any]):
    """Object that has a field twice."""


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else Ambiguous(fields)


def records_of(body: bytes) -> list[Any]:
    """Return the content of a page's list of records, even if the rest is broken."""
    try:
        page = json.loads(body.decode("utf-8-sig", errors="replace"), object_pairs_hook=_build_object)
    except (ValueError, RecursionError):
        return []
    records = page.get("records") if isinstance(page, dict) else None
    return records if isinstance(records, list) else []


def permitted_records(body: bytes) -> list[Any]:
    """Return the records of a page; of a broken page every object in it, because each may be a record."""
    if records := records_of(body):
        return records
    text = body.decode("utf-8-sig", errors="replace")
    return [content for start in re.finditer(r"\{", text) if (content := _decode_object(text, start.start()))]


def _decode_object(text: str, start: int) -> Any:
    try:
        return json.JSONDecoder().raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return None


def decode_record(record: Any) -> Decoded | None:
    """Return a permitted meaning of a record, or None if it has none."""
    if not isinstance(record, dict):
        return None
    second = to_epoch(record.get("systemTime"))
    glucose = glucose_of(record.get("value"), read_word(record, "unit"), read_word(record, "status"))
    if second is None or glucose is None:
        return None
    return Decoded(
        second, *glucose, read_word(record, "transmitterId") or None, read_word(record, "displayDevice") or "unknown"
    )


def plain(record: Any, now: int) -> Decoded | None:
    """Return the meaning of an unambiguous record."""
    if (
        not isinstance(record, dict)
        or isinstance(record, Ambiguous)
        or any(isinstance(each, list | dict) for each in record.values())
    ):
        return None
    if any(isinstance(value, str) and len(value) > MAX_TEXT for value in record.values()):
        return None
    text = json.dumps(record, ensure_ascii=False)
    if re.search("[\ufffd\ud800-\udfff]", text):  # bytes that are not text, or half a character
        return None
    time, value = record.get("systemTime"), record.get("value")
    usual = (
        isinstance(time, str)
        and _PLAIN_TIME.match(time)
        and type(value) is int
        and 41 <= value <= 399
        and record.get("unit") == "mg/dL"
        and isinstance(record.get("recordId"), str)
        and _PLAIN_TRANSMITTER.match(str(record.get("transmitterId")))
        and record.get("displayDevice") in {"iOS", "android", "receiver"}
    )
    found = decode_record(record) if usual else None
    return found if found and to_epoch("2015-01-01T00:00:00Z") <= found.second <= now else None  # type: ignore[operator]


def read_word(record: dict[str, Any], name: str) -> str:
    found = record.get(name)
    return found.strip() if isinstance(found, str) else ""


def glucose_of(value: Any, unit: str, status: str) -> tuple[int, str] | None:
    """Return mg/dL and flag: 39 represents LOW and 401 HIGH, for every unit and word."""
    if isinstance(value, str):
        return {"low": (39, "low"), "high": (401, "high")}.get(value.strip().lower())
    if not isinstance(value, NUMBERS) or isinstance(value, bool) or not 0 < value <= 1000:
        return None
    factor = {"mg/dl": Decimal(1), "mmol/l": PER_MMOL_L}.get(unit.lower())
    if factor is None or Decimal(value) * factor > 1000:
        return None
    whole = int((Decimal(value) * factor).to_integral_value())
    if whole < 40 or (whole == 40 and status.lower() == "low"):
        return 39, "low"
    if whole > 400 or (whole == 400 and status.lower() == "high"):
        return 401, "high"
    return whole, "ok"


def to_epoch(time: Any) -> int | None:
    """Return the instant of a timestamp by counting days: date, zone and clock are cut out one after the other."""
    if not isinstance(time, str):
        return None
    text = time.strip().upper().replace(",", ".")
    calendar, _, rest = text.replace("T", " ", 1).partition(" ")
    offset, clock = _zone(rest)
    numbers = [int(each) for each in (*_FIELDS.findall(calendar), *_clock(clock))]
    if len(numbers) != 6 or offset is None:
        return None
    year, month, day, hour, minute, second = numbers
    try:
        days = date(year, month, day).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        return None
    return ((days * 24 + hour) * 60 + minute) * 60 + second - offset


def _clock(text: str) -> Iterator[str]:
    parts = text.partition(".")[0].split(":") if text else []
    yield from (*parts, *["0"] * (3 - len(parts)))[:3] if all(each.isdecimal() for each in parts) else ()


def _zone(text: str) -> tuple[int | None, str]:
    """Return the offset in seconds, rounded to the minute, and the text before it."""
    if text.endswith("Z"):
        return 0, text[:-1]
    found = _OFFSET.search(text)
    if found is None:
        return 0, text
    hours, minutes, seconds = (int(each or 0) for each in found.groups()[1:])
    offset = (hours * 60 + minutes + (seconds >= 30)) * 60
    return offset if found[1] == "+" else -offset, text[: found.start()]
