"""Statistics, days and profiles of random windows equal those recomputed from the range's own answer.

The oracle, ``numpy_statistics``, shares no code with the service.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest

from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Device, Flag, Reading
from tests.conftest import on
from tests.harness.api import DEVICE, ApiHarness, open_api
from tests.properties import numpy_statistics as oracle

anyio_backend = on("asyncio")

WINDOWS = 200
ZONES = ("own", "UTC", "Europe/Berlin", "America/New_York", "America/Havana", "America/Santiago", "Australia/Lord_Howe",
         "Asia/Kathmandu")  # fmt: skip
BINS = {"5m": 5, "15m": 15, "30m": 30, "1h": 60}
AUTUMN, SPRING = datetime(2025, 10, 24, tzinfo=UTC), datetime(2026, 3, 27, tzinfo=UTC)
"""Beginnings of 11 days that contain clock changes of the zones above."""
SPRING_COMMITS = (4, 8, 11)
"""Days of spring at which the readings before them are stored."""
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


class Wear(NamedTuple):
    """A device, its cadence, and the days of an era on which it measures."""

    device: Device
    minutes: int
    first: float
    last: float


def device(sensor: str | None, display: str = "iOS", generation: str = "g7") -> Device:
    return Device("acme", "account-1", sensor, display, generation)


WORN = {
    UserId("ada"): [Wear(DEVICE, 5, 0, 6.3), Wear(device("minute"), 1, 4.5, 6.5), Wear(device("late"), 5, 6.4, 11)],
    UserId("ben"): [
        Wear(device("quarter"), 15, 0, 5.2),
        Wear(device("five"), 5, 4, 11),
        Wear(device("five", "receiver"), 5, 3.5, 9),
    ],
    UserId("eva"): [Wear(device("one"), 5, 0, 11), Wear(device("two"), 5, 2, 8), Wear(device(None, "web"), 15, 7, 10)],
}


def draw_readings(random: Random, wear: Wear, start: datetime, offset: int | None) -> Iterator[Reading]:
    """Yield a random walk with jitter, gaps, LOW and HIGH; the offset changes by an hour after three days."""
    at, value, end = start + wear.first * DAY, 120, start + wear.last * DAY
    at += timedelta(seconds=random.choice([0, 0, 17]))
    while at < end:
        value = min(401, max(39, value + random.randint(-14, 14)))
        flag = {39: Flag.LOW, 401: Flag.HIGH}.get(value, Flag.OK)
        moved = None if offset is None else offset + 3600 * (at > start + 3 * DAY)
        jitter = timedelta(seconds=random.choice([0, 0, 0, 1, 3]))
        yield Reading(at + jitter, value, flag, wear.device, utc_offset_seconds=moved)
        at += wear.minutes * MINUTE
        if random.random() < 0.004:
            at += random.randint(1, 300) * MINUTE
            value = random.choice([50, 120, 300, 390])


async def store_series(api: ApiHarness, random: Random) -> None:
    """Store both eras of all users, and revise some readings of autumn later."""
    drawn = {}
    for (user, worn), offset in zip(WORN.items(), (3600, None, -18_000), strict=True):
        for start in (AUTUMN, SPRING):
            drawn[user, start] = [row for wear in worn for row in draw_readings(random, wear, start, offset)]
    for user in WORN:
        await api.add_readings(*sorted(drawn[user, AUTUMN], key=lambda row: row.measured_at), user=user)
    api.clock.advance(DAY)
    for user in WORN:
        changed = random.sample(drawn[user, AUTUMN], 60)
        revised = [msgspec.structs.replace(row, glucose_mg_dl=random.randint(40, 400), flag=Flag.OK) for row in changed]
        await api.add_readings(*sorted(revised, key=lambda row: row.measured_at), user=user)
    stored_until = SPRING
    for day in SPRING_COMMITS:
        now = SPRING + day * DAY
        api.clock.advance(now - api.clock.now())
        for user in WORN:
            new = [row for row in drawn[user, SPRING] if stored_until <= row.measured_at < now]
            await api.add_readings(*sorted(new, key=lambda row: row.measured_at), user=user)
        stored_until = now


class Case(NamedTuple):
    """Random request."""

    user: UserId
    query: dict[str, str]
    start: datetime
    end: datetime
    zone: str
    ranges: str
    now: datetime


def draw_case(random: Random, present: datetime, last_change: dict[UserId, int]) -> Case:
    user, zone = random.choice(list(WORN)), random.choice(ZONES)
    era = random.choice([AUTUMN, SPRING])
    hours = random.choices([1, 4, 24, 45, 100, 350], weights=[8, 7, 4, 1, 0.3, 0.1])[0] * random.uniform(0.5, 1)
    start = (era + random.uniform(-0.5, 9.5) * DAY).replace(microsecond=0)
    end = start + timedelta(seconds=int(3600 * hours))
    texts = oracle.to_text(int(start.timestamp())), oracle.to_text(int(end.timestamp()))
    if random.random() < 0.15:
        first, last = start.date(), start.date() + (1 + int(hours / 30)) * DAY
        start, end = (midnight(day, zone) for day in (first, last))
        texts = str(first), str(last)
    query, now = {"from": texts[0], "to": texts[1]}, present
    kind = random.random()
    if kind < 0.2:
        query["as_of_change"] = str(random.randint(0, last_change[user]))
    elif kind < 0.4:
        earliest = max(start + MINUTE, datetime(2026, 3, 2, 12, tzinfo=UTC))
        now = random.choice([earliest + random.random() * (present - MINUTE - earliest), present - DAY])
        now = max(now, earliest).replace(microsecond=0)
        now = min(now, present - MINUTE)
        query["as_of"] = oracle.to_text(int(now.timestamp()))
    return Case(user, query, start, end, zone, random.choice(["standard", "standard", "pregnancy"]), now)


def midnight(day: date, zone: str) -> datetime:
    name = "UTC" if zone == "own" else zone
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(name)).astimezone(UTC)


async def get(api: ApiHarness, user: UserId, route: str, query: dict[str, str]) -> Any:
    answer = await api.http.get(f"/api/bg/{user}{route}", params=query)
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content)


def check(found: Any, expected: Any, name: str) -> None:
    """Assert that integers, texts and nulls are equal, and that figures are the expected ones, rounded."""
    if isinstance(expected, dict):
        assert isinstance(found, dict), name
        assert found.keys() == expected.keys(), name
        for key, value in expected.items():
            check(found[key], value, f"{name}.{key}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=0.005 + 1e-9), name
    else:
        assert found == expected, name


@pytest.mark.slow
async def test_statistics_of_random_windows_equal_numpy_over_the_range() -> None:
    random, rows_seen, empty = Random(17), 0, 0
    weights: set[int] = set()
    async with open_api() as api:
        await store_series(api, random)
        changes = {user: (await get(api, user, "/changes", {}))["last"] for user in WORN}
        for number in range(WINDOWS):
            case = draw_case(random, api.clock.now(), changes)
            named = {
                "from": oracle.to_text(int(case.start.timestamp())),
                "to": oracle.to_text(int(case.end.timestamp())),
            }
            rows = await get(api, case.user, "", case.query | named | {"view": "full"})
            shown = oracle.read_rows(rows, case.zone)
            weights.update(shown.weight.tolist())
            rows_seen, empty = rows_seen + len(rows), empty + (not rows)
            query = case.query | {"zone": case.zone, "ranges": case.ranges}
            start = int(case.start.timestamp())
            end = max(start, int(min(case.end, case.now).timestamp()))
            common = {"user_id": case.user, **named, "zone": case.zone, "ranges": case.ranges}
            window = await get(api, case.user, "/statistics", query)
            check(window, common | oracle.window_figures(shown, case.ranges, end - start), str(case))

            days = await get(api, case.user, "/statistics/daily", query)
            expected_days = oracle.day_figures(shown, case.ranges, case.zone, start, end)
            assert [day["date"] for day in days["days"]] == [day["date"] for day in expected_days], case
            for day, expected in zip(days["days"], expected_days, strict=True):
                check(day, expected, f"{case} {expected['date']}")

            if number % 2:  # a profile costs as much as the rest
                continue
            bin_name = random.choice(list(BINS))
            profile = await get(api, case.user, "/profile", query | {"bin": bin_name})
            assert profile["profile"] == oracle.profile_bins(shown, BINS[bin_name]), case
    assert rows_seen > 10_000
    assert empty > 3
    assert {0, 60, 300, 900} <= weights
