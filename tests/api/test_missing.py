"""GET gaps and completeness, over a whole house."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import anyio
import httpx
import pytest

from bg_ingest.domain.connections import Defaults
from bg_ingest.simulator.faults import Damaged, Late, Revised
from tests.home import Home
from tests.house import START, house

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
async def home() -> AsyncIterator[Home]:
    async with house(defaults=Defaults(HOUR, backfill_days=3)) as opened:
        yield Home(opened)


async def live_on(home: Home, until: timedelta) -> None:
    end = home.house.clock.now() + until
    turn = await home.turn()
    while turn.due is not None and turn.due < end:
        turn = await home.due_turn(turn)
    await anyio.sleep((end - home.house.clock.now()).total_seconds())


async def ask(home: Home, what: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    query = httpx.QueryParams({"from": start.isoformat(), "to": end.isoformat()})
    answer = await home.house.api.get(f"/api/bg/ada/{what}", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def test_gaps_are_those_that_reach_into_what_is_asked_for(home: Home) -> None:
    begins = START + 8 * HOUR
    home.house.simulator.add_fault(Late(start=begins, end=begins + 2 * HOUR, shown_at=START + 90 * DAY))
    await home.house.connect("ada")
    await live_on(home, 14 * HOUR)
    for start, end in ((-1, 1), (0.5, 1), (1, 5), (-3, 4)):
        found = await ask(home, "gaps", begins + start * HOUR, begins + end * HOUR)
        (gap,) = [each for each in found if each["missing"] == 24]
        assert gap["provider"] == "dexcom"
        assert gap["cadence_seconds"] == 300
        assert gap["cause"] == "provider_has_nothing"
        assert gap["healed_at"] is None
        at, to = datetime.fromisoformat(gap["from"]), datetime.fromisoformat(gap["to"])
        assert begins <= at < begins + 5 * MINUTE
        assert begins + 2 * HOUR <= to < begins + 125 * MINUTE
        assert datetime.fromisoformat(gap["opened_at"]) > at + HOUR
    outside = [
        *await ask(home, "gaps", begins - 4 * HOUR, begins),
        *await ask(home, "gaps", begins + 130 * MINUTE, START + DAY),
    ]
    assert not [each for each in outside if each["missing"] == 24]


async def test_events_of_gaps_carry_what_the_route_shows(home: Home) -> None:
    async with home.house.running():
        await home.house.connect("ada")
        await anyio.sleep(120)
        found = await ask(home, "gaps", START - 4 * DAY, START)
        told = [each for each in home.house.told_of("ada") if "cadence_seconds" in each]
        assert found
        assert [{name: each[name] for name in found[0]} for each in told] == found
        numbers = home.house.told_numbers("ada")
        assert numbers == list(range(1, len(numbers) + 1))


async def test_a_whole_day_expects_what_its_cadence_has(home: Home) -> None:
    late, revised, damaged = START + 24 * HOUR, START + 30 * HOUR, START + 33 * HOUR
    simulator = home.house.simulator
    simulator.add_fault(Late(start=late, end=late + HOUR, shown_at=late + 5 * HOUR))
    simulator.add_fault(Revised(start=revised, end=revised + HOUR / 2, revised_at=revised + HOUR, by=5))
    await home.house.connect("ada")
    await live_on(home, damaged - START)
    simulator.add_fault(Damaged(every=5, ways=("no_value",), count=1))
    await live_on(home, START + 3 * DAY - damaged)
    days = await ask(home, "completeness", START - 10 * DAY, START + 2 * DAY + 12 * HOUR)
    whole = days[1:-1]
    assert len(whole) == 4
    for day in whole:
        assert abs(day["expected"] - 288) <= 2
        assert day["expected"] == day["stored"] + sum(day["missing"].values())
        start = datetime.fromisoformat(f"{day['date']}T00:00:00Z")
        true = home.house.truth("SandboxUser1", start, start + DAY - timedelta(seconds=1))
        assert day["stored"] == len(true)
    by_date = {day["date"]: day for day in days}
    assert [day["late"] for day in whole] == [0, 0, 0, 12]
    second = by_date["2026-03-03"]
    assert (second["late"], second["revised"]) == (12, 6)
    assert second["quarantined"] > 0
    assert sum(day["quarantined"] for day in days) == second["quarantined"]
    partly = await ask(home, "completeness", late, late + HOUR)
    assert [(day["stored"], day["late"], day["missing"]) for day in partly] == [(12, 12, {})]


async def test_what_a_silence_misses_is_counted_as_it_grows(home: Home) -> None:
    await home.house.connect("ada")
    await live_on(home, HOUR)
    now = home.house.clock.now()
    home.house.simulator.add_fault(Late(start=now, end=now + 90 * DAY, shown_at=now + 90 * DAY))
    await live_on(home, 8 * HOUR)
    earlier = await ask(home, "completeness", now, now + DAY)
    await live_on(home, 2 * HOUR)
    later = await ask(home, "completeness", now, now + DAY)
    assert sum(day["missing"]["provider_has_nothing"] for day in later) == 24 + sum(
        day["missing"]["provider_has_nothing"] for day in earlier
    )


@pytest.mark.parametrize("what", ["gaps", "completeness"])
async def test_who_is_unknown_or_asks_nonsense_is_told_so(home: Home, what: str) -> None:
    api = home.house.api
    assert (await api.get(f"/api/bg/nobody/{what}")).status_code == 404
    await home.house.connect("ada")
    assert (await api.get(f"/api/bg/ada/{what}")).json() == []
    assert (await api.get(f"/api/bg/ada/{what}?from=2026-03-02&to=2026-03-01")).status_code == 400
    assert (await api.get(f"/api/bg/ada/{what}?from=2026-03-02T10:00:00")).status_code == 400
    assert (await api.get(f"/api/bg/ada/{what}?view=full")).status_code == 400
