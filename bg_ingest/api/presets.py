"""CSV as other programs read it: iglu, GluPredKit, and readers of Clarity exports. Times are local."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeAlias

from bg_ingest.api.formats import cells_format, encode_stream
from bg_ingest.api.problems import build_problem
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.local_time import Zone
from bg_ingest.domain.readings import Flag, StoredReading
from bg_ingest.domain.segment_codec import to_epoch_seconds
from bg_ingest.services.queries.datasets import UserRows

PresetName: TypeAlias = Literal["iglu", "glupredkit", "clarity"]
Cells: TypeAlias = Sequence[Any]

SLOT_SECONDS = 300
OPEN_SLOTS = 26 * 3600 // SLOT_SECONDS
"""Slots that a later reading may still fall into: local times lie between UTC-12 and UTC+14."""


class Preset(Protocol):
    """Rows of a file, in the order of the dataset."""

    def add(self, batch: UserRows) -> Iterator[Cells]:
        """Add readings of a user, and yield the rows that are complete."""

    def finish(self) -> Iterator[Cells]:
        """Yield the remaining rows."""


class Iglu:
    """Columns of iglu (R and Python)."""

    columns = ("id", "time", "gl")

    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    def add(self, batch: UserRows) -> Iterator[Cells]:
        for stored in batch.rows:
            time = _format_time(_local_second(stored, self._zone))
            yield batch.user, time, stored.reading.glucose_mg_dl

    def finish(self) -> Iterator[Cells]:
        yield from ()


class GluPredKit:
    """Grid of five minutes in local time for each user, from the first reading to the last.

    A slot has the mean of its readings. If a clock is set back, an hour of local time occurs twice. The readings of
    both occurrences share the slots of this hour, so the times of a user always ascend.
    """

    columns = ("date", "id", "CGM")

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._user = UserId("")
        self._slots: dict[int, list[int]] = {}
        self._next: int | None = None

    def add(self, batch: UserRows) -> Iterator[Cells]:
        if batch.user != self._user:
            yield from self.finish()
            self._user = batch.user
        for stored in batch.rows:
            slot = _local_second(stored, self._zone) // SLOT_SECONDS
            self._slots.setdefault(slot, []).append(stored.reading.glucose_mg_dl)
        yield from self._close_until(max(self._slots, default=0) - OPEN_SLOTS)

    def finish(self) -> Iterator[Cells]:
        yield from self._close_until(max(self._slots, default=0) + 1)
        self._next = None

    def _close_until(self, end: int) -> Iterator[Cells]:
        first = min(self._slots, default=end)
        for slot in range(first if self._next is None else self._next, end):
            values = self._slots.pop(slot, None)
            mean = None if values is None else _shorten(sum(values) / len(values))
            yield _format_time(slot * SLOT_SECONDS), self._user, mean
            self._next = slot + 1


class Clarity:
    """Export of Dexcom Clarity in English: the user as first name, then the readings."""

    columns = (
        "Index",
        "Timestamp (YYYY-MM-DDThh:mm:ss)",
        "Event Type",
        "Event Subtype",
        "Patient Info",
        "Device Info",
        "Source Device ID",
        "Glucose Value (mg/dL)",
        "Insulin Value (u)",
        "Carb Value (grams)",
        "Duration (hh:mm:ss)",
        "Glucose Rate of Change (mg/dL/min)",
        "Transmitter Time (Long Integer)",
        "Transmitter ID",
    )

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._user: UserId | None = None
        self._index = 0

    def add(self, batch: UserRows) -> Iterator[Cells]:
        if batch.user != self._user:
            self._user = batch.user
            # The last name is a space: Glucose360 joins both names, and pandas reads an empty cell as a number.
            for event, text in (("FirstName", batch.user), ("LastName", " "), ("DateOfBirth", "")):
                yield self._cells("", event, text, "", "", "")
        for stored in batch.rows:
            reading = stored.reading
            time = _format_time(_local_second(stored, self._zone)).replace(" ", "T")
            value = {Flag.LOW: "Low", Flag.HIGH: "High"}.get(reading.flag, reading.glucose_mg_dl)
            yield self._cells(time, "EGV", "", reading.device.display, value, reading.device.sensor_name)

    def _cells(self, time: str, event: str, person: str, device: str, value: object, sensor: str | None) -> Cells:
        self._index += 1
        return self._index, time, event, "", person, "", device, value, "", "", "", "", "", sensor

    def finish(self) -> Iterator[Cells]:
        yield from ()


_PRESETS: dict[PresetName, type[Iglu | GluPredKit | Clarity]] = {
    "iglu": Iglu,
    "glupredkit": GluPredKit,
    "clarity": Clarity,
}
PRESET_FORMATS = {name: cells_format(preset.columns) for name, preset in _PRESETS.items()}


def parse_preset(name: str | None, versions: str | None) -> PresetName | None:
    """Return the preset of a request; 400 if it is unknown, or if all versions are requested."""
    if not name:
        return None
    if versions == "all":
        detail = "A preset has one value of each reading: leave 'versions' out."
        raise build_problem(400, "invalid-versions", detail)
    for preset in PRESET_FORMATS:
        if preset == name:
            return preset
    raise build_problem(400, "invalid-preset", f"There is no such preset: send one of {', '.join(PRESET_FORMATS)}.")


def encode_preset(batches: AsyncGenerator[UserRows], name: PresetName, zone: Zone) -> AsyncGenerator[bytes]:
    """Yield the file. The rows of the batches are ``StoredReading``."""
    return encode_stream(_iter_rows(batches, _PRESETS[name](zone)), list, PRESET_FORMATS[name])


async def of_user(user: UserId, batches: AsyncGenerator[Sequence[StoredReading]]) -> AsyncGenerator[UserRows]:
    """Yield the batches of a user's range in the form of the batches of a dataset."""
    async with aclosing(batches):
        async for rows in batches:
            yield UserRows(user, rows)


async def _iter_rows(batches: AsyncGenerator[UserRows], preset: Preset) -> AsyncGenerator[Sequence[Cells]]:
    async with aclosing(batches):
        async for batch in batches:
            yield list(preset.add(batch))
    yield list(preset.finish())


def _local_second(stored: StoredReading, zone: Zone) -> int:
    second = to_epoch_seconds(stored.reading.measured_at)
    return second + zone.offset(second, stored.reading.utc_offset_seconds)


def _format_time(local_second: int) -> str:
    return datetime.fromtimestamp(local_second, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _shorten(mean: float) -> float | int:
    return int(mean) if mean.is_integer() else round(mean, 2)
