"""Measuring times of a worn sensor: its ten days, warm-up, grid of slots, and missing periods.

Pure like the curve. Instants are whole seconds since 1970.
"""

import random
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from bg_ingest.simulator.chance import chance, hex_of, key_of
from bg_ingest.simulator.curve import DAY
from bg_ingest.simulator.users import Generation, Person

LIFE_SECONDS = 10 * DAY
WARM_UP_SECONDS: dict[Generation, int] = {"g6": 2 * 3600, "g7": 30 * 60}
_MISSED_SLOT_RATE = 0.003
_LATE_SECOND_RATE = 0.3  # a real G6 trace has 299, 300 and 301 s between readings, in about this share


class Sensor(msgspec.Struct, frozen=True):
    """One sensor with its transmitter: worn from `begins`, measuring in [`first`, `ends`)."""

    begins: int
    first: int
    ends: int
    transmitter_id: str


def sensors(seed: int, person: Person, start: int, end: int) -> Iterator[Sensor]:
    """Return the sensors worn between two instants, oldest first."""
    key = key_of(seed, person.name, "sensors")
    change = int(chance(key, -1) * LIFE_SECONDS)  # people change sensors on different days
    for number in range((start - change) // LIFE_SECONDS, (end - change) // LIFE_SECONDS + 1):
        begins = change + number * LIFE_SECONDS + int(chance(key, number) * 300)
        yield Sensor(
            begins=begins,
            first=begins + WARM_UP_SECONDS[person.generation],
            ends=change + (number + 1) * LIFE_SECONDS,
            transmitter_id=hex_of(seed, person.name, "transmitter", number),
        )


def slots(sensor: Sensor, cadence: int, start: int, end: int) -> range:
    """Return the numbers of slots in [start, end]; a slot may be a second late, see `slot_second`."""
    first = max(0, -((sensor.first - start + 1) // cadence))
    return range(first, (min(end, sensor.ends - 2) - sensor.first) // cadence + 1)


def slot_second(key: int, slot_begins: int) -> int:
    """Return the second of a slot's reading."""
    return slot_begins + (chance(key, slot_begins) < _LATE_SECOND_RATE)


def is_missed(key: int, instant: int) -> bool:
    """Return True for a slot without a reading: a single loss, or one of the day's periods out of reach."""
    if chance(key ^ 1, instant) < _MISSED_SLOT_RATE:
        return True
    return any(begins <= instant < ends for begins, ends in _out_of_reach(key, instant // DAY))


@lru_cache(maxsize=4096)
def _out_of_reach(key: int, day: int) -> tuple[tuple[int, int], ...]:
    dice = random.Random(key_of(key, day))
    times = dice.choices((0, 1, 2), (7, 2, 1))[0]
    starts = [day * DAY + dice.randrange(DAY) for _ in range(times)]
    return tuple((start, start + int(dice.triangular(10, 150, 20) * 60)) for start in starts)
