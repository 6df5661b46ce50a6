"""What a turn leaves behind says why the next one is due when it is, and how stale the connection is."""

from datetime import datetime, timedelta

import anyio

from bg_ingest.domain.polling import NextPollReason
from bg_ingest.domain.readings import Origin
from bg_ingest.simulator.faults import Failed, Late
from tests.harness.connected_user import ConnectedUser

HOUR = timedelta(hours=1)
DELAY = timedelta(seconds=30)
"""The simulator's, until it shows a reading."""


async def newest_visible_at(ada: ConnectedUser) -> datetime:
    newest = (await ada.connection()).newest_reading_at
    assert newest is not None
    return newest + DELAY


async def test_after_readings_the_next_slot_is_waited_for(ada: ConnectedUser) -> None:
    await anyio.sleep(1200)
    poll = await ada.poll()
    assert poll.origin is Origin.LIVE
    report = await ada.poll_until_idle(poll)
    assert report.state.reason is NextPollReason.SLOT
    assert report.state.visible_at == await newest_visible_at(ada)
    early = await ada.poll()
    assert (early.origin, early.state) == (None, report.state)


async def test_in_silence_polls_drift_apart_and_the_staleness_grows(ada: ConnectedUser) -> None:
    now = ada.service.clock.now()
    ada.service.simulator.add_fault(Late(start=now, end=now + 9 * HOUR, shown_at=now + 9 * HOUR))
    report = await ada.poll()
    while ada.service.clock.now() < now + 2 * HOUR:
        report = await ada.poll_when_due(report)
    report = await ada.poll_until_idle(report)
    assert report.state.reason is NextPollReason.SILENCE
    assert report.state.visible_at == await newest_visible_at(ada)
    assert report.state.visible_at < now


async def test_a_failure_is_retried_and_hides_no_staleness(ada: ConnectedUser) -> None:
    await anyio.sleep(1200)
    ada.service.simulator.add_fault(Failed(endpoint="egvs", count=1))
    failed = await ada.poll()
    assert (failed.origin, failed.state.reason) == (Origin.LIVE, NextPollReason.RETRY)
    assert failed.state.visible_at == await newest_visible_at(ada)


async def test_what_is_left_of_the_past_is_read_at_once(ada: ConnectedUser) -> None:
    await anyio.sleep((70 * 24 * HOUR).total_seconds())
    poll = await ada.poll()
    assert (poll.state.reason, poll.due) == (NextPollReason.BACKFILL, ada.service.clock.now())
    origins = [(await ada.poll()).origin for _ in range(4)]
    assert Origin.BACKFILL in origins
