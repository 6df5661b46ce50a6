"""What a turn leaves behind says why the next one is due when it is, and how stale the connection is."""

from datetime import datetime, timedelta

import anyio

from bg_ingest.domain.readings import Origin
from bg_ingest.domain.turns import Why
from bg_ingest.simulator.faults import Failed, Late
from tests.home import Home

HOUR = timedelta(hours=1)
DELAY = timedelta(seconds=30)
"""The simulator's, until it shows a reading."""


async def newest_shown_at(home: Home) -> datetime:
    newest = (await home.connection()).newest_reading_at
    assert newest is not None
    return newest + DELAY


async def test_after_readings_the_next_slot_is_waited_for(home: Home) -> None:
    await anyio.sleep(1200)
    look = await home.turn()
    assert look.origin is Origin.LIVE
    turn = await home.at_rest(look)
    assert turn.plan.why is Why.SLOT
    assert turn.plan.shown_at == await newest_shown_at(home)
    early = await home.turn()
    assert (early.origin, early.plan) == (None, turn.plan)


async def test_in_silence_looks_drift_apart_and_the_staleness_grows(home: Home) -> None:
    now = home.house.clock.now()
    home.house.simulator.add_fault(Late(start=now, end=now + 9 * HOUR, shown_at=now + 9 * HOUR))
    turn = await home.turn()
    while home.house.clock.now() < now + 2 * HOUR:
        turn = await home.due_turn(turn)
    turn = await home.at_rest(turn)
    assert turn.plan.why is Why.SILENCE
    assert turn.plan.shown_at == await newest_shown_at(home)
    assert turn.plan.shown_at < now


async def test_a_failure_is_retried_and_hides_no_staleness(home: Home) -> None:
    await anyio.sleep(1200)
    home.house.simulator.add_fault(Failed(endpoint="egvs", count=1))
    failed = await home.turn()
    assert (failed.origin, failed.plan.why) == (Origin.LIVE, Why.RETRY)
    assert failed.plan.shown_at == await newest_shown_at(home)


async def test_what_is_left_of_the_past_is_read_at_once(home: Home) -> None:
    await anyio.sleep((70 * 24 * HOUR).total_seconds())
    look = await home.turn()
    assert (look.plan.why, look.due) == (Why.PAST, home.house.clock.now())
    origins = [(await home.turn()).origin for _ in range(4)]
    assert Origin.BACKFILL in origins
