"""Late readings far behind the watermark: found by the sweeps, whatever the overlap missed."""

from datetime import timedelta

import anyio
import msgspec
import pytest

from bg_ingest.domain.connections import Defaults
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.sweeps import Reach
from bg_ingest.ports import Priority
from bg_ingest.simulator.faults import Failed, Late
from tests.home import Home
from tests.house import START, house

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SELDOM = Defaults(2 * HOUR, backfill_days=1)


async def live_on(home: Home, until: timedelta) -> None:
    """Take every turn that is due."""
    end = home.house.clock.now() + until
    turn = await home.turn()
    while turn.due is not None and turn.due < end:
        turn = await home.due_turn(turn)
    await anyio.sleep((end - home.house.clock.now()).total_seconds())


async def agrees(home: Home, since: timedelta = timedelta(0)) -> bool:
    """Whether all is stored that the provider has, up to the last look."""
    stored = await home.measured()
    first, last = START - DAY + since, stored[-1][0]
    true = home.house.truth("SandboxUser1", first, last)  # type: ignore[arg-type]
    return [each for each in stored if each[0] >= first] == true  # type: ignore[operator]


@pytest.mark.parametrize(
    ("shown_after", "found_within"),
    [(5 * HOUR, DAY + HOUR), (2 * DAY, DAY + HOUR), (12 * DAY, 7 * DAY + HOUR)],
)
async def test_case_17_what_comes_days_or_weeks_late_is_found(shown_after: timedelta, found_within: timedelta) -> None:
    async with house(defaults=SELDOM) as opened:
        home = Home(opened)
        await home.connect()
        begins = opened.clock.now() + DAY
        opened.simulator.add_fault(Late(start=begins, end=begins + 4 * HOUR, shown_at=begins + 4 * HOUR + shown_after))
        await live_on(home, 28 * HOUR + shown_after - HOUR)
        watermark = (await home.connection()).watermark
        await live_on(home, HOUR + found_within)
        assert await agrees(home, MINUTE)
        after = (await home.connection()).watermark
        assert watermark is not None
        assert after is not None
        assert watermark <= after <= opened.clock.now()


async def test_sweeps_ask_as_repairs_and_never_for_more_than_was_wanted() -> None:
    async with house(defaults=SELDOM) as opened:
        home = Home(opened)
        await home.connect()
        swept_at = set()
        for _ in range(8 * 12):
            await live_on(home, 2 * HOUR)
            swept_at.add((await home.connection()).swept_at)
        assert len(swept_at - {None}) == 8
        again = [each.window for each in opened.provider.asked if each.priority is Priority.REPAIR]
        assert max(each.length for each in again) > 4 * DAY
        available = (await home.connection()).available
        assert available is not None
        assert min(each.start for each in again) >= available.end - DAY


async def test_a_sweep_that_brings_nothing_is_done_until_the_next_day(home: Home) -> None:
    await live_on(home, DAY)
    swept_at = (await home.connection()).swept_at
    assert swept_at is not None
    calls = home.house.simulator.calls["egvs", 200]
    await live_on(home, DAY)
    polls = DAY // (15 * MINUTE)
    assert home.house.simulator.calls["egvs", 200] - calls <= polls + 1


async def test_a_sweep_that_fails_is_tried_again_and_looks_at_what_is_new_go_on(home: Home) -> None:
    connection = await home.connection()
    await live_on(home, DAY)
    home.house.simulator.add_fault(Failed(endpoint="egvs", count=6))
    stale = msgspec.structs.replace(await home.connection(), swept_at=None)
    await home.services.store.connections.note(await home.connection(), stale)
    turn = await home.turn()
    assert turn.outcome.ending is Ending.UNAVAILABLE
    for _ in range(8):
        turn = await home.due_turn(turn)
    await live_on(home, HOUR)
    swept_at = (await home.connection()).swept_at
    assert swept_at is not None
    assert swept_at >= home.house.clock.now() - 2 * HOUR
    assert connection.swept_at is None


async def test_without_reach_nothing_is_swept() -> None:
    none = timedelta(0)
    async with house(defaults=Defaults(backfill_days=1, reach=Reach(none, none))) as opened:
        home = Home(opened)
        await home.connect()
        await live_on(home, 3 * DAY)
        assert (await home.connection()).swept_at is None
        again = [each.window for each in opened.provider.asked if each.priority is Priority.REPAIR]
        assert all(each.end < opened.clock.now() - HOUR for each in again), "only what is missing is asked for again"
