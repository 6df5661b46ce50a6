"""Statistics, days, profile and series over readings in a store in memory, against expected figures."""

import csv
import itertools
import json
import math
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.local_time import Zone
from bg_ingest.domain.reading_filter import AsOf
from bg_ingest.domain.readings import Device, Flag, Reading
from bg_ingest.domain.series import Bins
from bg_ingest.domain.windows import Window
from bg_ingest.services.queries.readings import ReadingQueries
from bg_ingest.services.queries.statistics import StatisticsQueries, StatisticsRequest
from bg_ingest.store import Store
from tests.fakes.clock import SetClock
from tests.harness.sample_values import DEVICE, USER, commit_connection, readings_commit_of

GOLDEN = Path(__file__).parents[3] / "golden" / "statistics"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
CLARITY = EXPECTED["clarity"]
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
SPRING = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_table(None, clock := SetClock()) as table:
        opened = Store(table, clock)
        await commit_connection(opened)
        yield opened


async def add(store: Store, readings: Sequence[Reading]) -> None:
    for start in range(0, len(readings), 200):
        await store.commits.write(await readings_commit_of(store.readings, readings[start : start + 200]))


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def ask(start: datetime, end: datetime, zone: str = "own", *, as_of: AsOf | None = None) -> StatisticsRequest:
    return StatisticsRequest(USER, Window(start, end), Zone(zone), as_of, now=datetime(2030, 1, 1, tzinfo=UTC))


def queries_of(store: Store) -> StatisticsQueries:
    return StatisticsQueries(ReadingQueries(store.readings, SetClock()))


def clarity_readings() -> list[Reading]:
    with (GOLDEN / "clarity.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [Reading(instant(row["measured_at"]), int(row["glucose_mg_dl"]), Flag.OK, DEVICE) for row in rows]


def public(answer: msgspec.Struct) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(msgspec.json.encode(answer))
    return fields


OTHER_NAMES = {"gri": "gri.value", "gri_hypo": "gri.hypo", "gri_hyper": "gri.hyper", "percentiles": "percentiles_mg_dl"}
OTHER_NAMES |= {"minimum": "lowest", "maximum": "highest", "span_days": "days", "length_seconds": "seconds"}
OTHER_NAMES |= {name: f"time_percent.{name}" for name in ("very_low", "low", "in_range", "high", "very_high")}
OTHER_NAMES |= {"in_tight_range": "time_percent.in_tight_range"}


def check(answer: dict[str, Any], expected: dict[str, Any], tolerance: float = 0.005) -> None:
    """Assert the expected figures: counts and seconds exactly, others after rounding."""
    for name, value in expected.items():
        found: Any = answer
        for part in OTHER_NAMES.get(name, name).split("."):
            found = found[part]
        if isinstance(value, float):
            assert found == pytest.approx(value, abs=tolerance + 1e-9), name
        elif name == "time_seconds":
            assert value.items() <= found.items()
        else:
            assert found == value, name


@pytest.mark.slow
async def test_figures_of_a_clarity_file_are_the_expected_ones(store: Store) -> None:
    await add(store, clarity_readings())
    queries = queries_of(store)
    window = ask(instant(CLARITY["window"]["from"]), instant(CLARITY["window"]["to"]))
    statistics = public(await queries.window(window))
    check(statistics, CLARITY["statistics"])
    weighted = CLARITY["reading_weighted"]
    check(statistics, {name: value for name, value in weighted.items() if isinstance(value, float)}, tolerance=0.015)
    assert statistics["first"] == CLARITY["first"]
    assert statistics["last"] == CLARITY["last"]
    for zone, expected in CLARITY["daily"].items():
        info = ZoneInfo(zone)
        start, end = (datetime(2016, month, day, tzinfo=info).astimezone(UTC) for month, day in ((10, 24), (11, 2)))
        days = public(await queries.daily(ask(start, end, zone)))["days"]
        assert [day["date"] for day in days] == [day["date"] for day in expected]
        for day, expected_day in zip(days, expected, strict=True):
            check(day, expected_day)
    profile = public(await queries.profile(ask(window.window.start, window.window.end, "UTC"), 15))["profile"]
    for row, expected_row in zip(profile, CLARITY["profile_15_minutes"]["UTC"], strict=True):
        minute = expected_row.pop("minute")
        assert row == {"time": f"{minute // 60:02}:{minute % 60:02}", **expected_row}
    rows = CLARITY["series_1_hour"]["rows"]
    start, end = (datetime.fromtimestamp(second, UTC) for second in (rows[0][0], rows[-1][0] + 3600))
    hours = Bins(Window(start, end), "1h", Zone("UTC"))
    series = await queries.series(ask(start, end, "UTC"), hours)
    by_start = dict(zip(series.t, zip(series.min, series.mean, series.max, series.n, strict=True), strict=True))
    for second, lowest, mean, highest, count in rows:
        assert by_start[second] == (lowest, None if mean is None else pytest.approx(mean, abs=0.0051), highest, count)


def edge_readings(case: dict[str, Any]) -> list[Reading]:
    """Return the shown readings of a case, each series as a sensor of its own so that all of them are shown."""
    rows = case["readings"]
    steps = [instant(later["measured_at"]) - instant(row["measured_at"]) for row, later in itertools.pairwise(rows)]
    readings = []
    for number, row in enumerate(rows):
        name = row.get("device") or row.get("sensor") or ""
        if case["name"].startswith("a 1-minute sensor"):
            name = "fast" if number < len(steps) and steps[number] == MINUTE and row["weight_seconds"] == 60 else "slow"
        value = row["glucose_mg_dl"]
        flag = Flag.LOW if value < 40 else Flag.HIGH if value > 400 else Flag.OK
        readings.append(
            Reading(instant(row["measured_at"]), value, flag, Device("acme", "account-1", name * 8 or None, "iOS"))
        )
    return readings


@pytest.mark.parametrize("case", EXPECTED["edges"], ids=lambda case: case["name"])
async def test_edge_cases_have_the_expected_figures(store: Store, case: dict[str, Any]) -> None:
    await add(store, edge_readings(case))
    request = ask(instant(case["window"]["from"]), instant(case["window"]["to"]))
    check(public(await queries_of(store).window(request)), case["expected"])


async def test_a_window_without_readings_has_zeros_and_nulls(store: Store) -> None:
    await add(store, [Reading(SPRING, 100, Flag.OK, DEVICE)])
    answer = public(await queries_of(store).window(ask(SPRING + DAY, SPRING + 3 * DAY)))
    assert (answer["readings"], answer["covered_seconds"], answer["active_percent"], answer["days"]) == (0, 0, 0, 2)
    assert set(answer["time_seconds"].values()) == {0}
    assert answer["flagged"] == {"low": 0, "high": 0}
    nulls = {name for name, value in answer.items() if value is None}
    assert {"mean_mg_dl", "time_percent", "percentiles_mg_dl", "gri", "first", "last", "change", "lbgi"} <= nulls


@pytest.mark.parametrize(
    ("zone", "day", "seconds"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23 * 3600),
        ("America/New_York", date(2026, 11, 1), 25 * 3600),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24 * 3600 + 1800),
        ("Europe/Berlin", date(2026, 7, 1), 24 * 3600),
    ],
)
async def test_days_have_the_length_of_their_zone(store: Store, zone: str, day: date, seconds: int) -> None:
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    await add(store, [Reading(midnight + number * 5 * MINUTE, 100, Flag.OK, DEVICE) for number in range(12)])
    answer = await queries_of(store).daily(ask(midnight - 2 * DAY, midnight + 3 * DAY, zone))
    assert [(summary.date, summary.seconds) for summary in answer.days] == [(day, seconds)]


def recompute(readings: Iterable[Reading]) -> list[tuple[Reading, int]]:
    """Weigh shown readings by the definition, independently of the service."""
    ordered = sorted(readings, key=lambda reading: reading.measured_at)
    cadences: dict[Device, int] = {}
    for device in {reading.device for reading in ordered}:
        times = [reading.measured_at for reading in ordered if reading.device == device]
        apart = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(times)]
        near = {step: sum(abs(seconds - step) <= step / 10 for seconds in apart) for step in (60, 300, 900)}
        step = max(near, key=lambda step: near[step])
        cadences[device] = step if near[step] >= 3 and near[step] * 2 > len(apart) else 300
    following = (
        [] if not ordered else [*(reading.measured_at for reading in ordered[1:]), datetime.max.replace(tzinfo=UTC)]
    )
    return [
        (reading, int(min(cadences[reading.device], (after - reading.measured_at).total_seconds())))
        for reading, after in zip(ordered, following, strict=True)
    ]


@pytest.mark.slow
async def test_random_windows_equal_an_independent_computation_and_days_add_up(store: Store) -> None:
    chance = random.Random(20)
    stored: list[Reading] = []
    at = SPRING
    for number, step in enumerate((1, 5, 15, 5)):
        device = Device("acme", "account-1", f"{number:08}", "iOS")
        for _ in range(200):
            at += step * MINUTE + timedelta(seconds=chance.randint(-5, 5)) * (step > 1)
            if chance.random() > 0.05:
                stored.append(Reading(at, chance.randint(39, 401), Flag.OK, device, utc_offset_seconds=3600))
    await add(store, stored)
    queries = queries_of(store)
    for _ in range(40):
        start = SPRING + chance.random() * 4 * DAY
        end = start + chance.random() * 2 * DAY + MINUTE
        start, end = start.replace(microsecond=0), end.replace(microsecond=0)
        zone = chance.choice(["own", "UTC", "Asia/Kathmandu", "America/St_Johns"])
        shown = [reading for reading in stored if start <= reading.measured_at < end]
        weighted = recompute(shown)
        total = sum(weight for _, weight in weighted)
        answer = public(await queries.window(ask(start, end, zone)))
        assert (answer["readings"], answer["covered_seconds"]) == (len(shown), total)
        if not shown:
            continue
        mean = sum(weight * reading.glucose_mg_dl for reading, weight in weighted) / total
        assert answer["mean_mg_dl"] == pytest.approx(mean, abs=0.0051)
        inside = sum(weight for reading, weight in weighted if 70 <= reading.glucose_mg_dl <= 180)
        assert answer["time_seconds"]["in_range"] == inside
        squares = sum(weight * (reading.glucose_mg_dl - mean) ** 2 for reading, weight in weighted) / total
        if len(shown) > 1:
            deviation = math.sqrt(squares * len(shown) / (len(shown) - 1))
            assert answer["sd_mg_dl"] == pytest.approx(deviation, abs=0.0051)
        days = public(await queries.daily(ask(start, end, zone)))["days"]
        assert sum(day["covered_seconds"] for day in days) == total
        assert sum(day["readings"] for day in days) == len(shown)
        assert sum(day["time_seconds"]["in_range"] for day in days) == inside


async def test_a_coarser_series_is_the_merge_of_a_finer_one_and_has_the_extremes(store: Store) -> None:
    chance = random.Random(7)
    stored = [Reading(SPRING + number * 5 * MINUTE, chance.randint(40, 400), Flag.OK, DEVICE) for number in range(400)]
    await add(store, stored)
    window = Window(SPRING, SPRING + 2 * DAY)
    queries = queries_of(store)
    request = ask(window.start, window.end, "UTC")
    finest = await queries.series(request, Bins(window, "5m", Zone("UTC")))
    values = [reading.glucose_mg_dl for reading in stored]
    for name in ("15m", "1h", "6h", "1d"):
        coarse = await queries.series(request, Bins(window, name, Zone("UTC")))
        assert (min(filter(None, coarse.min)), max(filter(None, coarse.max))) == (min(values), max(values))
        for begin, lowest, highest, count in zip(coarse.t, coarse.min, coarse.max, coarse.n, strict=True):
            inside = [n for n, second in enumerate(finest.t) if begin <= second < begin + coarse.bin_seconds]
            lows = [value for n in inside if (value := finest.min[n]) is not None]
            highs = [value for n in inside if (value := finest.max[n]) is not None]
            assert (lowest, highest) == (min(lows, default=None), max(highs, default=None))
            assert count == sum(finest.n[n] for n in inside)


async def test_figures_as_of_an_earlier_change_stay(store: Store) -> None:
    await add(store, [Reading(SPRING + number * 5 * MINUTE, 100, Flag.OK, DEVICE) for number in range(10)])
    head = await store.readings.head(USER)
    assert head is not None
    before = ask(SPRING, SPRING + DAY, as_of=AsOf(change=head.last_change))
    first = await queries_of(store).window(before)
    await add(store, [Reading(SPRING, 300, Flag.OK, DEVICE)])
    assert await queries_of(store).window(before) == first
    assert (await queries_of(store).window(ask(SPRING, SPRING + DAY))).highest == 300
