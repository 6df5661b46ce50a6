"""Late readings far behind the watermark: found by the sweeps, whatever the overlap missed."""

from datetime import timedelta

import anyio
import msgspec
import pytest

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.polling import Outcome
from bg_ingest.domain.schedule import SweepDepth
from bg_ingest.ports import Priority
from bg_ingest.simulator.faults import Failed, Late
from tests.harness.connected_user import ConnectedUser
from tests.harness.service import START, open_service

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
EVERY_TWO_HOURS = PollDefaults(2 * HOUR, backfill_days=1)


async def poll_for(ada: ConnectedUser, until: timedelta) -> None:
    """Take every turn that is due."""
    end = ada.service.clock.now() + until
    report = await ada.poll()
    while report.due is not None and report.due < end:
        report = await ada.poll_when_due(report)
    await anyio.sleep((end - ada.service.clock.now()).total_seconds())


async def assert_complete(ada: ConnectedUser, since: timedelta = timedelta(0)) -> bool:
    """Whether all is stored that the provider has, up to the last look."""
    stored = await ada.measured_values()
    first, last = START - DAY + since, stored[-1][0]
    true = ada.service.true_values("SandboxUser1", first, last)  # type: ignore[arg-type]
    return [each for each in stored if each[0] >= first] == true  # type: ignore[operator]


@pytest.mark.parametrize(
    ("shown_after", "found_within"),
    [(5 * HOUR, DAY + HOUR), (2 * DAY, DAY + HOUR), (12 * DAY, 7 * DAY + HOUR)],
)
async def test_case_17_what_comes_days_or_weeks_late_is_found(shown_after: timedelta, found_within: timedelta) -> None:
    async with open_service(defaults=EVERY_TWO_HOURS) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        begins = service.clock.now() + DAY
        service.simulator.add_fault(Late(start=begins, end=begins + 4 * HOUR, shown_at=begins + 4 * HOUR + shown_after))
        await poll_for(ada, 28 * HOUR + shown_after - HOUR)
        watermark = (await ada.connection()).watermark
        await poll_for(ada, HOUR + found_within)
        assert await assert_complete(ada, MINUTE)
        after = (await ada.connection()).watermark
        assert watermark is not None
        assert after is not None
        assert watermark <= after <= service.clock.now()


async def test_sweeps_have_the_priority_of_repairs_and_never_exceed_their_depth() -> None:
    async with open_service(defaults=EVERY_TWO_HOURS) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        swept_at = set()
        for _ in range(8 * 12):
            await poll_for(ada, 2 * HOUR)
            swept_at.add((await ada.connection()).swept_at)
        assert len(swept_at - {None}) == 8
        again = [each.window for each in service.provider.asked if each.priority is Priority.REPAIR]
        assert max(each.length for each in again) > 4 * DAY
        available = (await ada.connection()).available
        assert available is not None
        assert min(each.start for each in again) >= available.end - DAY


async def test_a_sweep_that_brings_nothing_is_done_until_the_next_day(ada: ConnectedUser) -> None:
    await poll_for(ada, DAY)
    swept_at = (await ada.connection()).swept_at
    assert swept_at is not None
    calls = ada.service.simulator.calls["egvs", 200]
    await poll_for(ada, DAY)
    polls = DAY // (15 * MINUTE)
    assert ada.service.simulator.calls["egvs", 200] - calls <= polls + 1


async def test_a_sweep_that_fails_is_tried_again_and_live_polls_go_on(ada: ConnectedUser) -> None:
    connection = await ada.connection()
    await poll_for(ada, DAY)
    ada.service.simulator.add_fault(Failed(endpoint="egvs", count=6))
    stale = msgspec.structs.replace(await ada.connection(), swept_at=None)
    await ada.services.store.connections.update(await ada.connection(), stale)
    report = await ada.poll()
    assert report.result.outcome is Outcome.UNAVAILABLE
    for _ in range(8):
        report = await ada.poll_when_due(report)
    await poll_for(ada, HOUR)
    swept_at = (await ada.connection()).swept_at
    assert swept_at is not None
    assert swept_at >= ada.service.clock.now() - 2 * HOUR
    assert connection.swept_at is None


async def test_without_reach_nothing_is_swept() -> None:
    none = timedelta(0)
    async with open_service(defaults=PollDefaults(backfill_days=1, sweep_depth=SweepDepth(none, none))) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        await poll_for(ada, 3 * DAY)
        assert (await ada.connection()).swept_at is None
        again = [each.window for each in service.provider.asked if each.priority is Priority.REPAIR]
        assert all(each.end < service.clock.now() - HOUR for each in again), "only what is missing is asked for again"
