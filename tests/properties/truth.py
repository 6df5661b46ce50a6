"""True series of a person, and the part that a provider shows so far."""

from datetime import datetime, timedelta
from random import Random
from typing import Any

import httpx
import msgspec

from tests.fakes.clock import NOON
from tests.harness.dexcom_answers import USER
from tests.harness.webhook_sender import envelope, record

SENSORS = ("ab" * 32, "cd" * 32, "")
DISPLAYS = ("iOS", "receiver")


class TrueReading(msgspec.Struct):
    """One reading; the last of its values is the true one, and the provider may not show it yet."""

    number: int
    values: list[int]
    shown: bool = False

    @property
    def at(self) -> datetime:
        """Every 20 minutes of the last hours, over segments; each third has a second device's beside it."""
        return NOON - timedelta(minutes=20 * (self.number - self.number // 3))

    @property
    def identity(self) -> tuple[datetime, str | None, str]:
        return self.at, self._sensor or None, self._display

    @property
    def _sensor(self) -> str:
        return SENSORS[self.number // 9 % 3]

    @property
    def _display(self) -> str:
        return DISPLAYS[self.number % 3 == 0]

    def record(self, value: int | None = None) -> dict[str, Any]:
        """Return the record in the provider's form, with this earlier value or the true one."""
        value = self.values[-1] if value is None else value
        unique = {"transmitterId": self._sensor, "displayDevice": self._display, "recordId": f"r{self.number}"}
        more = (
            {"trend": "flat", "transmitterGeneration": "g7"}
            if value % 2
            else {"trend": "singleUp", "transmitterGeneration": "g6"}
        )
        return record(self.at, value, **unique, **more)


class Truth:
    """True series, shared by the simulated provider and the checks."""

    def __init__(self, values: list[int]) -> None:
        self.readings = [TrueReading(number, [value]) for number, value in enumerate(values)]

    def show(self, number: int) -> None:
        self.readings[number % len(self.readings)].shown = True

    def revise(self, number: int, by: int) -> None:
        """Change a value; a reading that was hidden is shown from then on."""
        found = self.readings[number % len(self.readings)]
        found.values.append(41 + (found.values[-1] + by) % 300)
        found.shown = True

    def answer(self, request: httpx.Request, random: Random) -> httpx.Response:
        """Answer egvs: the shown records of the window, in any order, some of them twice."""
        start, end = (datetime.fromisoformat(request.url.params[name] + "+00:00") for name in ("startDate", "endDate"))
        page = [each.record() for each in self.readings if each.shown and start <= each.at <= end]
        page += random.sample(page, len(page) // 3)
        random.shuffle(page)
        return httpx.Response(200, content=envelope(USER, page))

    def pushed(self, numbers: list[int], *, stale: bool) -> bytes:
        """Return a push of some shown records, with their true values or their first ones."""
        chosen = [self.readings[number % len(self.readings)] for number in numbers]
        return envelope(USER, [each.record(each.values[0] if stale else None) for each in chosen if each.shown])

    def series(self) -> list[tuple[tuple[datetime, str | None, str], int]]:
        """Return every reading with its true value, in the order of the store."""
        return sorted(((each.identity, each.values[-1]) for each in self.readings), key=str)
