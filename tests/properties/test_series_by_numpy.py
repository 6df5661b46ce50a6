"""Series of random windows, bins and zones equal those recomputed with numpy from the range's own answer."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from random import Random
from typing import Any

import numpy as np
import pytest

from bg_ingest.domain.ids import UserId
from tests.conftest import on
from tests.harness.api import ApiHarness, open_api, reading
from tests.properties import numpy_statistics as oracle
from tests.properties.test_statistics_by_numpy import DAY, SPRING, WORN, draw_readings, get, midnight

anyio_backend = on("asyncio")

USER = UserId("ada")
ZONES = ("UTC", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe")
COLUMNS = ("t", "min", "mean", "max", "n")
BINS = {"5m": 300, "15m": 900, "30m": 1_800, "1h": 3_600, "3h": 10_800, "6h": 21_600, "1d": 86_400}


@pytest.fixture
async def api() -> AsyncIterator[ApiHarness]:
    """Return an API with 11 days of three sensors, of one and five minutes."""
    random = Random(21)
    async with open_api() as opened:
        opened.clock.advance(SPRING + 11 * DAY - opened.clock.now())
        rows = [row for wear in WORN[USER] for row in draw_readings(random, wear, SPRING, 3600)]
        await opened.add_readings(*sorted(rows, key=lambda row: row.measured_at), user=USER)
        yield opened


def edges_of(answer: dict[str, Any], zone: str) -> list[int]:
    """Return the starts of all bins and the end of the last one; days begin at local midnights."""
    last = answer["t"][-1]
    if answer["bin_seconds"] < BINS["1d"]:
        return [*answer["t"], last + answer["bin_seconds"]]
    offset = oracle.quarter_offsets(zone)[(last - int(oracle.CALENDAR_START.timestamp())) // oracle.QUARTER]
    following = date(1970, 1, 1) + timedelta(days=int(last + offset) // oracle.DAY + 1)
    return [*answer["t"], int(midnight(following, zone).timestamp())]


def expected_columns(shown: oracle.Shown, edges: list[int]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"min": [], "mean": [], "max": [], "n": []}
    places = np.searchsorted(edges, shown.second, side="right") - 1
    for place in range(len(edges) - 1):
        part = shown.select(places == place)
        count, total = len(part.value), int(part.weight.sum())
        mean = float(np.average(part.value, weights=part.weight if total else None)) if count else None
        columns["n"].append(count)
        columns["mean"].append(mean)
        columns["min"].append(int(part.value.min()) if count else None)
        columns["max"].append(int(part.value.max()) if count else None)
    return columns


@pytest.mark.slow
async def test_series_of_random_windows_equal_numpy_over_the_range(api: ApiHarness) -> None:
    random = Random(22)
    seen: set[int] = set()
    for _ in range(60):
        name, zone = random.choice(list(BINS)), random.choice(ZONES)
        start = SPRING + random.uniform(-0.3, 8) * DAY
        length = min(2.5 * DAY, timedelta(seconds=200 * BINS[name])) * random.uniform(0.1, 1)
        window = {
            "from": oracle.to_text(int(start.timestamp())),
            "to": oracle.to_text(int((start + length).timestamp())),
        }
        answer = await get(api, USER, "/series", window | {"bin": name, "zone": zone})
        edges = edges_of(answer, zone)
        assert edges[0] <= int(start.timestamp()) < edges[1]
        assert edges[-2] < int((start + length).timestamp()) <= edges[-1]
        widened = {"from": oracle.to_text(edges[0]), "to": oracle.to_text(edges[-1]), "view": "full"}
        shown = oracle.read_rows(await get(api, USER, "", widened), zone)
        expected = expected_columns(shown, edges)
        for column in ("min", "max", "n"):
            assert answer[column] == expected[column], (name, zone, window)
        for found, mean in zip(answer["mean"], expected["mean"], strict=True):
            assert found == (None if mean is None else pytest.approx(mean, abs=0.0051))
        seen.add(sum(expected["n"]))
    assert len(seen) > 40


async def test_a_revised_reading_changes_one_bin_of_every_size() -> None:
    window = {"from": "2026-03-01", "to": "2026-03-02"}
    async with open_api() as opened:
        await opened.add_readings(*(reading(number, 100 + number % 7) for number in range(-280, -20)))
        before = {name: await get(opened, USER, "/series", window | {"bin": name}) for name in BINS}
        await opened.add_readings(reading(-200, 390))
        for name, earlier in before.items():
            later = await get(opened, USER, "/series", window | {"bin": name})
            rows = [list(zip(*(series[column] for column in COLUMNS), strict=True)) for series in (earlier, later)]
            changed = [old for old, new in zip(*rows, strict=True) if old != new]
            assert len(changed) == 1, name
            assert (later["t"], later["n"]) == (earlier["t"], earlier["n"])
