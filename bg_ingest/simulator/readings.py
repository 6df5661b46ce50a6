"""True readings of a simulated person, computed on request for any window, and the sensor that measures them.

The functions are pure, like the glucose curve. A sensor lasts ten days, with a warm-up, a grid of slots, and gaps.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec

from bg_ingest.domain.readings import MAX_DISPLAYED_MG_DL, MIN_DISPLAYED_MG_DL, Flag
from bg_ingest.simulator.options import chance, hex_of, key_of
from bg_ingest.simulator.users import DAY, DisplayDevice, Generation, Person, levels

LIFE_SECONDS = 10 * DAY
WARM_UP_SECONDS: dict[Generation, int] = {"g6": 2 * 3600, "g7": 30 * 60}
_MISSED_SLOT_RATE = 0.003
# Share of the readings that are a second later than their slot. At a cadence of 5 minutes, 21, 58 and 21 % of the
# intervals between readings are therefore 299, 300 and 301 s, about as in a real G6 trace.
_LATE_SECOND_RATE = 0.3
_RATE_SECONDS = 15 * 60  # the trend rate is the mean rate of change over this time
_ARROWS = (
    (-3, "doubleDown"),
    (-2, "singleDown"),
    (-1, "fortyFiveDown"),
    (1, "flat"),
    (2, "fortyFiveUp"),
    (3, "singleUp"),
)


class Sensor(msgspec.Struct, frozen=True):
    """One sensor with its transmitter: worn from `begins`, measuring in [`first`, `ends`)."""

    begins: int
    first: int
    ends: int
    transmitter_id: str


class TrueReading(msgspec.Struct, frozen=True, kw_only=True):
    """Measurement of a sensor. Glucose in mg/dL, 39 and 401 for LOW and HIGH; the rate in mg/dL per minute."""

    measured_at: datetime
    glucose_mg_dl: int
    flag: Flag
    trend: str
    trend_rate: float | None
    utc_offset_seconds: int
    transmitter_id: str
    transmitter_ticks: int
    display_device: DisplayDevice
    generation: Generation


class Wearer(Protocol):
    """A user of the simulator: simulated, or replayed from a file."""

    name: str
    title: str
    first: datetime
    """Lower bound of all readings."""

    @property
    def last(self) -> datetime | None:
        """Upper bound of all readings; None: unlimited."""

    def readings(self, start: datetime, end: datetime) -> Sequence[TrueReading]:
        """Return the readings with start <= measured_at <= end, oldest first. Pure."""


class SimulatedWearer:
    """User with readings computed from the curve, from `first` on, without an end."""

    last = None

    def __init__(self, seed: int, person: Person, cadence_minutes: int, first: datetime) -> None:
        self.name, self.title, self.first = person.name, person.title, first
        self._seed = seed
        self._person = person
        self._cadence_seconds = cadence_minutes * 60
        self._key = key_of(seed, person.name, "slots")

    def readings(self, start: datetime, end: datetime) -> Sequence[TrueReading]:
        begins = -int(-max(start, self.first).timestamp() // 1)
        ends = int(end.timestamp() // 1)
        return [
            reading
            for sensor in sensors(self._seed, self._person, begins, ends)
            for reading in self._of_sensor(sensor, begins, ends)
        ]

    def _of_sensor(self, sensor: Sensor, begins: int, ends: int) -> Iterator[TrueReading]:
        slot_numbers = slots(sensor, self._cadence_seconds, begins, ends)
        lag = _RATE_SECONDS // self._cadence_seconds
        curve_begins = sensor.first + (slot_numbers.start - lag) * self._cadence_seconds
        curve = levels(self._seed, self._person, curve_begins, self._cadence_seconds, len(slot_numbers) + lag)
        for index, slot in enumerate(slot_numbers):
            slot_instant = sensor.first + slot * self._cadence_seconds
            instant = slot_instant + (chance(self._key, slot_instant) < _LATE_SECOND_RATE)
            if begins <= instant <= ends and not is_missed(self._key, slot_instant):
                yield self._reading(sensor, instant, curve[index + lag], curve[index])

    def _reading(self, sensor: Sensor, instant: int, level: float, earlier_level: float) -> TrueReading:
        value, flag = clamp_to_display(level + 3 * chance(self._key ^ 2, instant) - 1.5)
        trend, rate = arrow((level - earlier_level) / (_RATE_SECONDS / 60))
        person = self._person
        zone = ZoneInfo(person.zones[instant // (person.stay_days * DAY) % len(person.zones)])
        at = datetime.fromtimestamp(instant, UTC)
        return TrueReading(
            measured_at=at,
            glucose_mg_dl=value,
            flag=flag,
            trend=trend,
            trend_rate=rate,
            utc_offset_seconds=utc_offset_seconds(at, zone),
            transmitter_id=sensor.transmitter_id,
            transmitter_ticks=instant - sensor.begins,
            display_device=person.device,
            generation=person.generation,
        )


def sensors(seed: int, person: Person, start: int, end: int) -> Iterator[Sensor]:
    """Return the sensors worn between two instants, oldest first."""
    key = key_of(seed, person.name, "sensors")
    phase = int(chance(key, -1) * LIFE_SECONDS)  # people change sensors on different days
    for number in range((start - phase) // LIFE_SECONDS, (end - phase) // LIFE_SECONDS + 1):
        begins = phase + number * LIFE_SECONDS + int(chance(key, number) * 300)
        first, ends = begins + WARM_UP_SECONDS[person.generation], phase + (number + 1) * LIFE_SECONDS
        yield Sensor(begins, first, ends, hex_of(seed, person.name, "transmitter", number))


def slots(sensor: Sensor, cadence_seconds: int, start: int, end: int) -> range:
    """Return the numbers of the slots whose readings may be in [start, end]: at the slot or a second later."""
    first = max(0, -((sensor.first - start + 1) // cadence_seconds))
    return range(first, (min(end, sensor.ends - 2) - sensor.first) // cadence_seconds + 1)


def is_missed(key: int, instant: int) -> bool:
    """Return True for a slot without a reading, because of a single loss or a period out of reach."""
    if chance(key ^ 1, instant) < _MISSED_SLOT_RATE:
        return True
    return any(begins <= instant < ends for begins, ends in _out_of_reach(key, instant // DAY))


@lru_cache(maxsize=4096)
def _out_of_reach(key: int, day: int) -> tuple[tuple[int, int], ...]:
    rng = random.Random(key_of(key, day))
    periods = rng.choices((0, 1, 2), (7, 2, 1))[0]
    starts = [day * DAY + rng.randrange(DAY) for _ in range(periods)]
    return tuple((start, start + int(rng.triangular(10, 150, 20) * 60)) for start in starts)


def clamp_to_display(level: float) -> tuple[int, Flag]:
    """Return value and flag of a level: outside the display's 40 to 400 mg/dL only LOW or HIGH is shown."""
    value = round(level)
    if value < MIN_DISPLAYED_MG_DL:
        return MIN_DISPLAYED_MG_DL - 1, Flag.LOW
    if value > MAX_DISPLAYED_MG_DL:
        return MAX_DISPLAYED_MG_DL + 1, Flag.HIGH
    return value, Flag.OK


def arrow(rate: float) -> tuple[str, float]:
    """Return trend word and rate, rounded as in the API. The words change at 1, 2 and 3 mg/dL per minute."""
    rounded = round(rate, 1) + 0.0  # no minus zero
    return next((word for upper_bound, word in _ARROWS if rounded <= upper_bound), "doubleUp"), rounded


def utc_offset_seconds(at: datetime, zone: ZoneInfo) -> int:
    return int((at.astimezone(zone).utcoffset() or timedelta()).total_seconds())
