"""GET gaps and completeness, over a whole service."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import anyio
import httpx
import pytest

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.simulator.faults import Damaged, Late, Revised
from tests.harness.connected_user import ConnectedUser
from tests.harness.service import START, open_service

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
async def ada() -> AsyncIterator[ConnectedUser]:
    async with open_service(defaults=PollDefaults(HOUR, backfill_days=3)) as service:
        yield ConnectedUser(service)


async def poll_for(ada: ConnectedUser, until: timedelta) -> None:
    end = ada.service.clock.now() + until
    report = await ada.poll()
    while report.due is not None and report.due < end:
        report = await ada.poll_when_due(report)
    await anyio.sleep((end - ada.service.clock.now()).total_seconds())


async def ask(ada: ConnectedUser, what: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    query = httpx.QueryParams({"from": start.isoformat(), "to": end.isoformat()})
    answer = await ada.service.api.get(f"/api/bg/ada/{what}", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


@pytest.mark.slow
async def test_gaps_are_those_that_reach_into_what_is_asked_for(ada: ConnectedUser) -> None:
    begins = START + 8 * HOUR
    ada.service.simulator.add_fault(Late(start=begins, end=begins + 2 * HOUR, shown_at=START + 90 * DAY))
    await ada.service.connect("ada")
    await poll_for(ada, 14 * HOUR)
    for start, end in ((-1, 1), (0.5, 1), (1, 5), (-3, 4)):
        found = await ask(ada, "gaps", begins + start * HOUR, begins + end * HOUR)
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
        *await ask(ada, "gaps", begins - 4 * HOUR, begins),
        *await ask(ada, "gaps", begins + 130 * MINUTE, START + DAY),
    ]
    assert not [each for each in outside if each["missing"] == 24]


async def test_events_of_gaps_carry_what_the_route_shows(ada: ConnectedUser) -> None:
    async with ada.service.running():
        await ada.service.connect("ada")
        await anyio.sleep(120)
        found = await ask(ada, "gaps", START - 4 * DAY, START)
        events = [each for each in ada.service.event_data_of("ada") if "cadence_seconds" in each]
        assert found
        assert [{name: each[name] for name in found[0]} for each in events] == found
        numbers = ada.service.event_numbers("ada")
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.slow
async def test_a_whole_day_expects_what_its_cadence_has(ada: ConnectedUser) -> None:
    late, revised, damaged = START + 24 * HOUR, START + 30 * HOUR, START + 33 * HOUR
    simulator = ada.service.simulator
    simulator.add_fault(Late(start=late, end=late + HOUR, shown_at=late + 5 * HOUR))
    simulator.add_fault(Revised(start=revised, end=revised + HOUR / 2, revised_at=revised + HOUR, by=5))
    await ada.service.connect("ada")
    await poll_for(ada, damaged - START)
    simulator.add_fault(Damaged(every=5, ways=("no_value",), count=1))
    await poll_for(ada, START + 3 * DAY - damaged)
    days = await ask(ada, "completeness", START - 10 * DAY, START + 2 * DAY + 12 * HOUR)
    whole = days[1:-1]
    assert len(whole) == 4
    for day in whole:
        assert abs(day["expected"] - 288) <= 2
        assert day["expected"] == day["stored"] + sum(day["missing"].values())
        start = datetime.fromisoformat(f"{day['date']}T00:00:00Z")
        true = ada.service.true_values("SandboxUser1", start, start + DAY - timedelta(seconds=1))
        assert day["stored"] == len(true)
    by_date = {day["date"]: day for day in days}
    assert [day["late"] for day in whole] == [0, 0, 0, 12]
    second = by_date["2026-03-03"]
    assert (second["late"], second["revised"]) == (12, 6)
    assert second["quarantined"] > 0
    assert sum(day["quarantined"] for day in days) == second["quarantined"]
    partly = await ask(ada, "completeness", late, late + HOUR)
    assert [(day["stored"], day["late"], day["missing"]) for day in partly] == [(12, 12, {})]


@pytest.mark.slow
async def test_what_a_silence_misses_is_counted_as_it_grows(ada: ConnectedUser) -> None:
    await ada.service.connect("ada")
    await poll_for(ada, HOUR)
    now = ada.service.clock.now()
    ada.service.simulator.add_fault(Late(start=now, end=now + 90 * DAY, shown_at=now + 90 * DAY))
    await poll_for(ada, 8 * HOUR)
    earlier = await ask(ada, "completeness", now, now + DAY)
    await poll_for(ada, 2 * HOUR)
    later = await ask(ada, "completeness", now, now + DAY)
    assert sum(day["missing"]["provider_has_nothing"] for day in later) == 24 + sum(
        day["missing"]["provider_has_nothing"] for day in earlier
    )


@pytest.mark.parametrize("what", ["gaps", "completeness"])
async def test_unknown_users_and_bad_parameters_are_refused(ada: ConnectedUser, what: str) -> None:
    api = ada.service.api
    assert (await api.get(f"/api/bg/nobody/{what}")).status_code == 404
    await ada.service.connect("ada")
    assert (await api.get(f"/api/bg/ada/{what}")).json() == []
    assert (await api.get(f"/api/bg/ada/{what}?from=2026-03-02&to=2026-03-01")).status_code == 400
    assert (await api.get(f"/api/bg/ada/{what}?from=2026-03-02T10:00:00")).status_code == 400
    assert (await api.get(f"/api/bg/ada/{what}?view=full")).status_code == 400
