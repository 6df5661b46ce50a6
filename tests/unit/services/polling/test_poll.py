"""Polls: kind, outcome, next due time and carried state."""

from datetime import datetime, timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.polling import MAX_BLOCKED, NextPollReason, Outcome, PollState
from bg_ingest.domain.readings import Origin
from bg_ingest.ports import Priority
from bg_ingest.services.polling.fetch import FORBIDDEN_WAIT
from bg_ingest.simulator.faults import (
    Failed,
    Fault,
    Html,
    Late,
    ReplyLost,
    Reset,
    Throttled,
    Truncated,
)
from tests.fakes.faults import Fault as CallFault
from tests.fakes.faults import FaultyCalls, every
from tests.harness.connected_user import ADA, ConnectedUser
from tests.harness.service import START

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DELAY = timedelta(seconds=30)
"""Initial delay of the simulator."""


async def test_polls_lie_on_the_sensors_grid_and_bring_each_reading_once(ada: ConnectedUser) -> None:
    report = await ada.poll()
    for _ in range(20):
        report = await ada.poll_when_due(report)
        while report.origin is not Origin.LIVE:  # a repair or a gap check is due at once
            report = await ada.poll_when_due(report)
        assert report.result.outcome is Outcome.READ
        assert report.result.recorded == 3
    stored = await ada.measured_values()
    assert stored == ada.service.true_values("SandboxUser1", START - DAY, ada.service.clock.now())[-len(stored) :]
    assert len(stored) == len(set(stored))


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Failed(endpoint="egvs"), Outcome.UNAVAILABLE),
        (Reset(endpoint="egvs"), Outcome.UNAVAILABLE),
        (ReplyLost(endpoint="egvs"), Outcome.UNAVAILABLE),
        (Html(endpoint="egvs"), Outcome.MISBEHAVED),
        (Truncated(endpoint="egvs"), Outcome.MISBEHAVED),
    ],
)
async def test_case_22_and_38_failures_move_nothing_and_are_retried_soon_then_at_the_slots(
    ada: ConnectedUser, fault: Fault, outcome: Outcome
) -> None:
    number = ada.service.simulator.add_fault(fault)
    await anyio.sleep(1200)
    before = await ada.connection()
    report = await ada.poll()
    waits = []
    for _ in range(5):
        assert report.result.outcome is outcome
        assert report.due is not None
        waits.append((report.due - ada.service.clock.now()).total_seconds())
        report = await ada.poll_when_due(report)
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[4] > 60
    after = await ada.connection()
    assert after.watermark == before.watermark
    assert after.last_outcome == outcome
    ada.service.simulator.faults.remove(number)
    report = await ada.poll_when_due(report)
    assert report.result.outcome is Outcome.READ
    assert report.state.failures == 0


async def test_case_36_a_throttled_poll_waits_the_requested_time(ada: ConnectedUser) -> None:
    ada.service.simulator.add_fault(Throttled(endpoint="egvs", retry_after=90, count=1))
    report = await ada.poll(requested=True)
    assert report.result.outcome is Outcome.THROTTLED
    assert report.due is not None
    assert 90 <= (report.due - ada.service.clock.now()).total_seconds() <= 90 * 1.25


async def test_case_40_a_forbidden_connection_shows_it_polls_seldom_and_recovers_by_itself(ada: ConnectedUser) -> None:
    number = ada.service.simulator.add_fault(Failed(endpoint="egvs", status=403))
    report = await ada.poll(requested=True)
    assert report.result.outcome is Outcome.FORBIDDEN
    assert report.due == ada.service.clock.now() + FORBIDDEN_WAIT
    assert (await ada.connection()).state is ConnectionState.PROVIDER_FORBIDDEN
    assert (await ada.poll_when_due(report)).result.outcome is Outcome.FORBIDDEN
    ada.service.simulator.faults.remove(number)
    assert (await ada.poll(requested=True)).result.outcome is Outcome.READ
    assert (await ada.connection()).state is ConnectionState.ACTIVE


async def test_f8_a_refusal_on_the_way_is_an_outage_until_it_is_repeated(ada: ConnectedUser) -> None:
    number = ada.service.simulator.add_fault(Html(endpoint="egvs", status=403))
    report = await ada.poll(requested=True)
    for _ in range(MAX_BLOCKED):
        assert report.result.outcome is Outcome.UNAVAILABLE
        assert (await ada.connection()).state is ConnectionState.ACTIVE
        report = await ada.poll_when_due(report)
    assert report.result.outcome is Outcome.FORBIDDEN
    assert (await ada.connection()).state is ConnectionState.PROVIDER_FORBIDDEN
    ada.service.simulator.faults.remove(number)
    report = await ada.poll_when_due(report)
    assert (report.result.outcome, report.state.blocked) == (Outcome.READ, 0)
    assert (await ada.connection()).state is ConnectionState.ACTIVE


async def test_a_new_process_polls_at_once_after_a_missed_slot_and_else_at_the_slot(
    ada: ConnectedUser,
) -> None:
    ada.state = PollState()
    report = await ada.poll()
    assert report.result.outcome is Outcome.NOT_DUE
    assert report.due is not None
    await anyio.sleep(DAY.total_seconds())
    ada.state = PollState()
    assert (await ada.poll()).result.outcome is Outcome.READ


async def test_a_failure_of_the_store_and_the_recovery_are_logged_also_when_no_fetch_is_due(ada: ConnectedUser) -> None:
    unreachable, _ = ada.service.new_process(FaultyCalls(ada.service.table, every(1, CallFault.BEFORE)))
    with capture_logs() as lines:
        ada.state = (await unreachable.poller.poll(ADA, 1, PollState())).state
        assert (await ada.poll()).result.outcome is Outcome.NOT_DUE
        await ada.poll()
    assert [line["action"] for line in lines] == ["poll_failed", "poll_recovered"]


async def test_the_log_names_the_first_failure_after_a_fenced_poll_and_no_recovery_of_that_poll(
    ada: ConnectedUser,
) -> None:
    number = ada.service.simulator.add_fault(Failed(endpoint="egvs"))
    with capture_logs() as lines:
        fenced = await ada.services.poller.poll(ADA, 0, PollState())
        assert fenced.result.outcome is Outcome.FENCED
        ada.state = fenced.state
        await ada.poll(requested=True)
        assert [line["action"] for line in lines] == ["poll_failed"]
        ada.service.simulator.faults.remove(number)
        ada.state = fenced.state
        await ada.poll(requested=True)
    assert [line["action"] for line in lines] == ["poll_failed"]


async def test_a_requested_poll_that_failed_is_tried_again_soon(ada: ConnectedUser) -> None:
    await ada.poll_when_due(await ada.poll())
    await anyio.sleep(400)
    ada.service.simulator.add_fault(Failed(endpoint="egvs", count=1))
    report = await ada.poll(requested=True)
    assert report.result.outcome is Outcome.UNAVAILABLE
    assert (await ada.poll_when_due(report)).result.outcome is Outcome.READ


async def test_a_connection_forbidden_and_allowed_alternately_is_not_polled_more_often(ada: ConnectedUser) -> None:
    simulator = ada.service.simulator
    async with ada.service.running():
        await anyio.sleep(60)
        before = sum(simulator.calls.values())
        for _ in range(20):
            simulator.add_fault(Failed(endpoint="egvs", status=403, count=1))
            ada.service.workers.wake_poller(ADA)
            await anyio.sleep(1)
        assert sum(simulator.calls.values()) - before <= 2 * 20


async def test_a_grant_that_cannot_be_opened_has_an_outcome_of_its_own(ada: ConnectedUser) -> None:
    other, _ = ada.service.new_process(sealer=AesGcmSealer([bytes([1] * 32)]))
    await anyio.sleep(1200)
    assert (await other.poller.poll(ADA, 1, ada.state)).result.outcome is Outcome.UNSEALABLE


async def newest_visible_at(ada: ConnectedUser) -> datetime:
    newest = (await ada.connection()).newest_reading_at
    assert newest is not None
    return newest + DELAY


async def test_after_readings_the_next_slot_is_due(ada: ConnectedUser) -> None:
    await anyio.sleep(1200)
    poll = await ada.poll()
    assert poll.origin is Origin.LIVE
    report = await ada.poll_until_idle(poll)
    assert report.state.reason is NextPollReason.SLOT
    assert report.state.visible_at == await newest_visible_at(ada)
    early = await ada.poll()
    assert (early.origin, early.state) == (None, report.state)


async def test_in_a_silence_the_distance_of_polls_and_the_staleness_grow(ada: ConnectedUser) -> None:
    now = ada.service.clock.now()
    ada.service.simulator.add_fault(Late(start=now, end=now + 9 * HOUR, shown_at=now + 9 * HOUR))
    report = await ada.poll()
    while ada.service.clock.now() < now + 2 * HOUR:
        report = await ada.poll_when_due(report)
    report = await ada.poll_until_idle(report)
    assert report.state.reason is NextPollReason.SILENCE
    assert report.state.visible_at == await newest_visible_at(ada)
    assert report.state.visible_at < now


async def test_a_failure_is_retried_and_keeps_the_staleness(ada: ConnectedUser) -> None:
    await anyio.sleep(1200)
    ada.service.simulator.add_fault(Failed(endpoint="egvs", count=1))
    failed = await ada.poll()
    assert (failed.origin, failed.state.reason) == (Origin.LIVE, NextPollReason.RETRY)
    assert failed.state.visible_at == await newest_visible_at(ada)


@pytest.mark.slow
async def test_the_rest_of_the_backfill_is_read_at_once(ada: ConnectedUser) -> None:
    await anyio.sleep((70 * 24 * HOUR).total_seconds())
    poll = await ada.poll()
    assert (poll.state.reason, poll.due) == (NextPollReason.MORE_TO_READ, ada.service.clock.now())
    origins = [(await ada.poll()).origin for _ in range(4)]
    assert Origin.BACKFILL in origins


async def test_s6_requested_polls_before_their_slot_count_as_further_calls_and_follow_due_polls(
    ada: ConnectedUser,
) -> None:
    report = await ada.poll_when_due(await ada.poll())
    asked, budget = ada.service.provider.asked, ada.services.budget
    key = budget.budget_key(ADA.provider, "us")
    before = budget.calls_per_poll(key)
    for _ in range(20):
        await anyio.sleep(10)
        report = await ada.poll(requested=True)
        assert asked[-1].priority is Priority.REQUESTED
    assert budget.calls_per_poll(key) > before
    report = await ada.poll_when_due(report)
    assert asked[-1].priority is Priority.LIVE
    await anyio.sleep(3600)
    await ada.poll(requested=True)
    assert asked[-1].priority is Priority.LIVE, "it was due anyway"
