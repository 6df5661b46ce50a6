"""Comparing with the provider, and reading the past again by hand."""

from datetime import timedelta

import anyio
import pytest

from bg_ingest.domain.connections import Defaults
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.turns import Plan
from bg_ingest.domain.verification import Kind, Verification
from bg_ingest.domain.windows import Window
from bg_ingest.errors import NotPossible, Unknown
from bg_ingest.ports import Priority
from bg_ingest.simulator.faults import Damaged, Failed, Late, Revised
from tests.fakes.faults import Fault, Faulty
from tests.home import ADA, Home
from tests.house import START, house

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


async def compare(home: Home, start: timedelta = -DAY, end: timedelta = 2 * DAY) -> Verification:
    found = await home.services.verifying.verify(ADA, Window(START + start, START + end))
    assert found is not None
    return found


async def test_what_was_read_does_not_differ(home: Home) -> None:
    await anyio.sleep(HOUR.total_seconds())
    await home.turn()
    found = await compare(home)
    assert found.differences == ()
    assert found.compared == len(
        [each for each in await home.house.stored("ada") if each.reading.measured_at in found.window]
    )
    assert found.compared > 280
    assert home.house.provider.asked[-1].priority is Priority.REPAIR


async def test_what_no_poll_has_read_yet_is_no_difference(home: Home) -> None:
    await anyio.sleep((5 * HOUR).total_seconds())
    found = await compare(home)
    assert found.differences == ()
    assert found.window.end <= START + MINUTE


async def test_each_kind_of_difference_is_told_and_nothing_is_changed(home: Home) -> None:
    await anyio.sleep((6 * HOUR).total_seconds())
    await home.turn()
    before = await home.measured()
    simulator, now = home.house.simulator, home.house.clock.now()
    simulator.add_fault(Late(start=now - 2 * HOUR, end=now - HOUR, shown_at=now + 90 * DAY))
    simulator.add_fault(Revised(start=now - 4 * HOUR, end=now - 3 * HOUR, revised_at=now, by=9))
    found = await compare(home)
    assert found.counts()[Kind.NOT_AT_PROVIDER] == 12
    assert found.counts()[Kind.OTHER_VALUE] == 12
    other = [each for each in found.differences if each.kind is Kind.OTHER_VALUE]
    assert {(each.provider_mg_dl or 0) - (each.stored_mg_dl or 0) for each in other} == {9}
    assert {each.without_values().stored_mg_dl for each in other} == {None}
    assert await home.measured() == before


async def test_what_came_late_and_was_not_read_again_is_not_stored() -> None:
    async with house(defaults=Defaults(backfill_days=1, overlap=timedelta(0))) as opened:
        home = Home(opened)
        opened.simulator.add_fault(Late(start=START - 5 * HOUR, end=START - 4 * HOUR, shown_at=START + 20 * MINUTE))
        await home.connect()
        await anyio.sleep(HOUR.total_seconds())
        await home.turn()
        found = await compare(home)
        assert dict(found.counts()) == {Kind.NOT_STORED: 12}
        span = await home.services.backfilling.begin(ADA, START - 6 * HOUR, START - 3 * HOUR)
        assert (await home.connection()).backfill == span
        await home.read_past()
        assert (await compare(home)).differences == ()


async def test_records_that_cannot_be_read_are_counted_not_compared(home: Home) -> None:
    home.house.simulator.add_fault(Damaged(every=10, ways=("no_value",)))
    found = await compare(home)
    assert found.unreadable > 20


async def test_what_cannot_be_compared_says_so(home: Home) -> None:
    verifying = home.services.verifying
    with pytest.raises(NotPossible, match="30 days"):
        await verifying.verify(ADA, Window(START - 31 * DAY, START))
    assert await verifying.verify(ADA, Window(START + DAY, START + 2 * DAY)) is None
    with pytest.raises(Unknown):
        await verifying.verify(type(ADA)(ADA.user, "acme"), Window(START - DAY, START))
    await home.services.steering.change(ADA, paused=True)
    with pytest.raises(NotPossible, match="paused"):
        await verifying.verify(ADA, Window(START - DAY, START))
    with pytest.raises(NotPossible, match="paused"):
        await home.services.backfilling.begin(ADA, None, None)


async def test_a_backfill_by_hand_joins_what_is_left_and_is_read_at_the_lowest_priority(home: Home) -> None:
    backfilling = home.services.backfilling
    await backfilling.begin(ADA, START - 40 * DAY, START - 35 * DAY)
    await backfilling.begin(ADA, START - 20 * DAY, None)
    left = (await home.connection()).backfill
    assert left == Window(START - 40 * DAY, home.house.clock.now())
    status = await home.house.api.get(f"/api/users/ada/connections/{ADA.provider}")
    assert status.json()["backfill_left"]["from"] == "2026-01-21T12:00:00Z"
    home.house.provider.asked.clear()
    await home.read_past()
    past = [each.window for each in home.house.provider.asked if each.priority is Priority.BACKFILL]
    assert [each.length <= 30 * DAY for each in past] == [True, True]
    stored = await home.measured()
    assert stored == home.house.truth("SandboxUser1", START - 40 * DAY, home.house.clock.now())
    with pytest.raises(NotPossible, match="nothing between"):
        await backfilling.begin(ADA, START + 9 * DAY, None)


@pytest.mark.parametrize("dies_at", [1, 3, 40, 120])
async def test_ninety_days_killed_and_resumed_repeat_at_most_one_window(dies_at: int) -> None:
    """Three calls of 30 days; the one that a kill cuts off is made once more, and nothing is stored twice."""
    async with house(around=lambda table: Faulty(table, lambda _: None, only={"transact"})) as opened:
        home = Home(opened)
        await opened.connect("ada")
        table = opened.table
        assert isinstance(table, Faulty)
        died = table.calls + dies_at
        table._plan = lambda call: Fault.BEFORE if call >= died else None
        while (await home.turn()).outcome.ending is Ending.READ:
            pass
        table._plan = lambda _: None
        home.plan = Plan()
        await home.read_past()
        assert opened.simulator.calls["dataRange", 200] == 1
        past = [each.window for each in opened.provider.asked if each.window.length > DAY]  # no looks at what is new
        assert 3 <= len(past) <= 4
        assert len(set(past)) == 3, "one is asked for once more, as it was"
        stored = await home.measured()
        assert len(stored) == len(set(stored))
        assert stored == opened.truth("SandboxUser1", stored[0][0], START)  # type: ignore[arg-type]
        assert stored[0][0] < START - 90 * DAY + HOUR  # type: ignore[operator]


async def test_over_http_values_are_shown_only_when_asked_for(home: Home) -> None:
    await anyio.sleep((6 * HOUR).total_seconds())
    await home.turn()
    now = home.house.clock.now()
    home.house.simulator.add_fault(Revised(start=now - 4 * HOUR, end=now - 3 * HOUR, revised_at=now, by=9))
    path = f"/api/users/ada/connections/{ADA.provider}"
    span = {"from": (START - HOUR).isoformat(), "to": (START + 6 * HOUR).isoformat()}
    plain = (await home.house.api.post(f"{path}/verify", json=span)).json()
    shown = (await home.house.api.post(f"{path}/verify", json=span | {"values": True})).json()
    assert {each["kind"] for each in plain["differences"]} == {"other_value"}
    assert {each["stored_mg_dl"] for each in plain["differences"]} == {None}
    assert None not in {each["stored_mg_dl"] for each in shown["differences"]}
    assert [each["measured_at"] for each in plain["differences"]] == [e["measured_at"] for e in shown["differences"]]
    for wrong in ({"from": "2026-03-02"}, {"from": span["to"], "to": span["from"]}, {**span, "more": 1}):
        assert (await home.house.api.post(f"{path}/verify", json=wrong)).status_code == 400
    too_long = {"from": (START - 40 * DAY).isoformat(), "to": START.isoformat()}
    assert (await home.house.api.post(f"{path}/verify", json=too_long)).status_code == 409
    home.house.simulator.add_fault(Failed(endpoint="egvs"))
    assert (await home.house.api.post(f"{path}/verify", json=span)).status_code == 503
    marked = await home.house.api.post(f"{path}/backfill", json={"from": (START - 9 * DAY).isoformat()})
    assert (marked.status_code, marked.json()["from"]) == (202, "2026-02-21T12:00:00Z")
    assert (await home.house.api.post(f"{path}/backfill")).status_code == 202
