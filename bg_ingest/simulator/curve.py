"""Glucose of a person at any instant: a pure function of the seed, so that nothing is stored.

Level = base + hour of day + slow noise + meals, dips and rare highs of the day.
Instants are whole seconds since 1970, levels mg/dL before rounding and clamping.
"""

import math
import random
from functools import lru_cache

import msgspec

from bg_ingest.simulator.chance import chance, key_of
from bg_ingest.simulator.users import Person, Temperament

DAY = 86_400
HOUR = 3600
MAX_SWING_SECONDS = 11 * HOUR
_KNOT_SECONDS = 100 * 60
_PEAK_FRACTION = 0.2  # share of the rise in the whole duration of a meal


class Swing(msgspec.Struct, frozen=True):
    """A rise (a meal, quick up and slow down) or, with a negative height, a dip."""

    begins: int
    lasts: int
    height: float


def levels(seed: int, person: Person, begins: int, step: int, count: int) -> list[float]:
    """Return the levels at `begins`, `begins + step`, … (`count` of them)."""
    key = key_of(seed, person.name, "curve")
    values = [_baseline(key, person, begins + index * step) for index in range(count)]
    ends = begins + count * step
    for day in range(_day(person, begins - MAX_SWING_SECONDS), _day(person, ends) + 1):
        for swing in swings(key, person.temperament, day):
            _add(swing, values, begins + person.home_hours * HOUR, step)
    return [min(max(value, 22.0), 480.0) for value in values]


def _day(person: Person, instant: int) -> int:
    return (instant + person.home_hours * HOUR) // DAY


def _baseline(key: int, person: Person, instant: int) -> float:
    hour = (instant / HOUR + person.home_hours) % 24
    temperament = person.temperament
    morning = temperament.dawn_rise * math.exp(-(((hour - 7) / 2) ** 2))
    night = -9 * math.exp(-(((hour - 2.5) / 2.5) ** 2))
    return temperament.level + morning + night + temperament.wander * _smooth_noise(key, instant)


def _smooth_noise(key: int, instant: int) -> float:
    """Return smooth noise in [-1, 1]: random knots, joined by a smoothstep curve."""
    knot, rest = divmod(instant, _KNOT_SECONDS)
    along = rest / _KNOT_SECONDS
    along = along * along * (3 - 2 * along)
    before, after = chance(key, knot), chance(key, knot + 1)
    return 2 * (before + (after - before) * along) - 1


@lru_cache(maxsize=8192)
def swings(key: int, temperament: Temperament, day: int) -> tuple[Swing, ...]:
    """Return the swings of one day; instants in the person's home time."""
    dice = random.Random(key_of(key, day))
    midnight = day * DAY
    happened: list[Swing] = []
    for hour, share in ((7.5, 0.8), (12.6, 1.0), (15.8, 0.35), (19.0, 1.1)):
        if dice.random() < 0.9:
            at = midnight + int(dice.gauss(hour, 0.6) * HOUR)
            height = temperament.meal_rise * share * dice.uniform(0.6, 1.4)
            happened.append(Swing(at, int(dice.uniform(3.5, 5.5) * HOUR), height))
    for _ in range(_times(dice, temperament.dips_per_day)):
        at = midnight + int(dice.uniform(0, 24) * HOUR)
        depth = temperament.dip_depth * dice.uniform(0.7, 1.4)
        happened.append(Swing(at, int(dice.uniform(1.2, 2.6) * HOUR), -depth))
    for _ in range(_times(dice, temperament.highs_per_day)):
        at = midnight + int(dice.uniform(10, 21) * HOUR)
        happened.append(Swing(at, int(dice.uniform(8, 11) * HOUR), dice.uniform(200, 330)))
    return tuple(happened)


def _times(dice: random.Random, mean: float) -> int:
    whole = int(mean)
    return whole + (dice.random() < mean - whole)


def _add(swing: Swing, values: list[float], begins: int, step: int) -> None:
    first = max(0, (swing.begins - begins) // step + 1)
    last = min(len(values), (swing.begins + swing.lasts - begins) // step + 1)
    for index in range(first, last):
        along = (begins + index * step - swing.begins) / swing.lasts
        values[index] += swing.height * (_rise(along) if swing.height > 0 else math.sin(math.pi * along) ** 2)


def _rise(along: float) -> float:
    steep = along / _PEAK_FRACTION
    return steep * steep * math.exp(2 * (1 - steep)) * (1 - along**3)
