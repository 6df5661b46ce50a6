"""Simulated users of seven kinds, and their glucose at any instant.

Glucose is a pure function of the seed, so that nothing is stored.
The level is a base, plus the effect of the hour, slow noise, and the meals, dips and rare highs of the day.
Instants are in whole seconds since 1970, levels in mg/dL before rounding and clamping.
"""

import math
import random
from functools import lru_cache
from typing import Literal

import msgspec

from bg_ingest.simulator.options import chance, key_of

DisplayDevice = Literal["iOS", "android", "receiver", "watch"]
Generation = Literal["g6", "g7"]

DAY = 86_400
HOUR = 3600
MAX_SWING_SECONDS = 11 * HOUR
_KNOT_SECONDS = 100 * 60
_PEAK_FRACTION = 0.2  # position of the peak within the duration of a meal, as a fraction


class Temperament(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of a person's glucose curve. Levels and rises in mg/dL, frequencies per day."""

    level: float = 112
    wander: float = 14
    meal_rise: float = 60
    dawn_rise: float = 8
    dips_per_day: float = 0.35
    dip_depth: float = 50
    highs_per_day: float = 0.02


class Person(msgspec.Struct, frozen=True):
    """A user who spends `stay_days` days in each of `zones` in turn. Meals follow the UTC offset `home_hours`."""

    title: str
    zones: tuple[str, ...]
    temperament: Temperament
    home_hours: int = 0
    device: DisplayDevice = "iOS"
    generation: Generation = "g6"
    stay_days: int = 9
    name: str = ""


_MORNINGS = Temperament(level=120, dawn_rise=65, dips_per_day=0.2)
_LOWS = Temperament(level=98, wander=18, dips_per_day=2.2, dip_depth=70)
_WORLD = ("Europe/London", "Asia/Kathmandu", "America/St_Johns", "Pacific/Auckland")
_STEADY = Temperament(wander=8, meal_rise=40, dips_per_day=0.1, highs_per_day=0)
_HIGHS = Temperament(level=175, wander=28, meal_rise=115, dips_per_day=0.3, highs_per_day=0.4)
_KINDS = (
    Person("Steady", ("Europe/Berlin",), _STEADY, 1),
    Person("High mornings", ("America/New_York",), _MORNINGS, -5, "android"),
    Person("Many lows", ("Europe/London",), _LOWS, generation="g7"),
    Person("Wears a receiver", ("America/Los_Angeles",), Temperament(), -8, "receiver"),
    Person("Travels", _WORLD, Temperament(meal_rise=75, wander=18), generation="g7"),
    Person("Many highs", ("Asia/Kolkata",), _HIGHS, 5, "android"),
    Person("Sandbox User - G7", ("Australia/Sydney",), Temperament(level=125, dips_per_day=0.6), 10, generation="g7"),
)


def person(number: int) -> Person:
    """Return a user by number, from 1. After seven users the kinds repeat, each time with another curve."""
    kind = _KINDS[(number - 1) % len(_KINDS)]
    return msgspec.structs.replace(kind, name=f"SandboxUser{number}")


class Swing(msgspec.Struct, frozen=True):
    """Temporary change of the level. A positive height is a steep rise with a slow fall, a negative one a dip."""

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
    rng = random.Random(key_of(key, day))
    midnight = day * DAY
    day_swings: list[Swing] = []
    for hour, share in ((7.5, 0.8), (12.6, 1.0), (15.8, 0.35), (19.0, 1.1)):
        if rng.random() < 0.9:
            at = midnight + int(rng.gauss(hour, 0.6) * HOUR)
            height = temperament.meal_rise * share * rng.uniform(0.6, 1.4)
            day_swings.append(Swing(at, int(rng.uniform(3.5, 5.5) * HOUR), height))
    for _ in range(_random_count(rng, temperament.dips_per_day)):
        at = midnight + int(rng.uniform(0, 24) * HOUR)
        depth = temperament.dip_depth * rng.uniform(0.7, 1.4)
        day_swings.append(Swing(at, int(rng.uniform(1.2, 2.6) * HOUR), -depth))
    for _ in range(_random_count(rng, temperament.highs_per_day)):
        at = midnight + int(rng.uniform(10, 21) * HOUR)
        day_swings.append(Swing(at, int(rng.uniform(8, 11) * HOUR), rng.uniform(200, 330)))
    return tuple(day_swings)


def _random_count(rng: random.Random, mean: float) -> int:
    return int(mean) + (rng.random() < mean - int(mean))


def _add(swing: Swing, values: list[float], begins: int, step: int) -> None:
    first = max(0, (swing.begins - begins) // step + 1)
    last = min(len(values), (swing.begins + swing.lasts - begins) // step + 1)
    for index in range(first, last):
        along = (begins + index * step - swing.begins) / swing.lasts
        values[index] += swing.height * (_rise(along) if swing.height > 0 else math.sin(math.pi * along) ** 2)


def _rise(along: float) -> float:
    steep = along / _PEAK_FRACTION
    return steep * steep * math.exp(2 * (1 - steep)) * (1 - along**3)
