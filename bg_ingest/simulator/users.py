"""Wearers of the simulated sensors: seven kinds of people, repeated as often as a load test needs."""

from typing import Literal

import msgspec

DisplayDevice = Literal["iOS", "android", "receiver"]
Generation = Literal["g6", "g7"]


class Temperament(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of a person's glucose curve. Levels and rises in mg/dL, frequencies per day."""

    level: float = 112
    wander: float = 14
    meal_rise: float = 60
    dawn_rise: float = 8
    dips_per_day: float = 0.35
    dip_depth: float = 50
    highs_per_day: float = 0.02


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One user of the login page, `stay_days` in each of `zones`; meals follow `home_hours` from UTC."""

    name: str
    title: str
    temperament: Temperament
    device: DisplayDevice = "iOS"
    generation: Generation = "g6"
    zones: tuple[str, ...] = ("UTC",)
    stay_days: int = 9
    home_hours: int = 0


_KINDS = (
    Person(
        name="SandboxUser1",
        title="Steady",
        temperament=Temperament(wander=8, meal_rise=40, dips_per_day=0.1, highs_per_day=0),
        zones=("Europe/Berlin",),
        home_hours=1,
    ),
    Person(
        name="SandboxUser2",
        title="High mornings",
        temperament=Temperament(level=120, dawn_rise=65, dips_per_day=0.2),
        device="android",
        zones=("America/New_York",),
        home_hours=-5,
    ),
    Person(
        name="SandboxUser3",
        title="Many lows",
        temperament=Temperament(level=98, wander=18, dips_per_day=2.2, dip_depth=70),
        generation="g7",
        zones=("Europe/London",),
    ),
    Person(
        name="SandboxUser4",
        title="Wears a receiver",
        temperament=Temperament(),
        device="receiver",
        zones=("America/Los_Angeles",),
        home_hours=-8,
    ),
    Person(
        name="SandboxUser5",
        title="Travels",
        temperament=Temperament(meal_rise=75, wander=18),
        generation="g7",
        zones=("Europe/London", "Asia/Kathmandu", "America/St_Johns", "Pacific/Auckland"),
    ),
    Person(
        name="SandboxUser6",
        title="Many highs",
        temperament=Temperament(level=175, wander=28, meal_rise=115, dips_per_day=0.3, highs_per_day=0.4),
        device="android",
        zones=("Asia/Kolkata",),
        home_hours=5,
    ),
    Person(
        name="SandboxUser7",
        title="Sandbox User - G7",
        temperament=Temperament(level=125, dips_per_day=0.6),
        generation="g7",
        zones=("Australia/Sydney",),
        home_hours=10,
    ),
)


def person(number: int) -> Person:
    """Return the number-th user, from 1. Beyond seven the kinds repeat, each person with another curve."""
    kind = _KINDS[(number - 1) % len(_KINDS)]
    return msgspec.structs.replace(kind, name=f"SandboxUser{number}")
