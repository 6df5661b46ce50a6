"""Gaps: opened once readings are overdue, healed by late readings, published as changes."""

from datetime import datetime, timedelta
from itertools import pairwise

import anyio
import pytest

from bg_ingest.domain.changes import GapHealed, GapOpened
from bg_ingest.domain.connections import ConnectionState, PollDefaults
from bg_ingest.domain.gaps import Cause, Gap, missing_count
from bg_ingest.domain.polling import Outcome, PollState
from bg_ingest.domain.schedule import SweepDepth
from bg_ingest.services.polling.gaps import ALL_TIME
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import Failed, Fault, Html, Late, Throttled
from tests.fakes.faults import Fault as StoreFault
from tests.fakes.faults import FaultyCalls
from tests.harness.connected_user import ADA, ConnectedUser
from tests.harness.polling_parts import build_gap_keeper
from tests.harness.service import START, open_service

MINUTE, HOUR, HALF_A_DAY, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(hours=12), timedelta(days=1)
ONE_DAY = PollDefaults(backfill_days=1)


async def poll_for(ada: ConnectedUser, until: timedelta) -> None:
    end = ada.service.clock.now() + until
    report = await ada.poll()
    while report.due is not None and report.due < end:
        report = await ada.poll_when_due(report)
    await anyio.sleep((end - ada.service.clock.now()).total_seconds())


async def read_gaps(ada: ConnectedUser) -> list[Gap]:
    ledgers = await ada.services.store.gaps.read_months(ADA, ALL_TIME.start, ALL_TIME.end)
    return [gap for each in ledgers for gap in each.gaps]


async def open_gaps(ada: ConnectedUser) -> list[Gap]:
    return [gap for gap in await read_gaps(ada) if gap.healed_at is None]


def true_gaps(ada: ConnectedUser, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """Expected gaps: adjacent readings of the simulator further apart than its cadence."""
    at = [at for at, _ in ada.service.true_values("SandboxUser1", since, until)]
    return [(a, b) for a, b in pairwise(at) if missing_count(a, b, 300)]


async def gap_events(ada: ConnectedUser) -> list[GapOpened | GapHealed]:
    head = await ada.services.store.readings.head(ADA.user)
    assert head is not None
    changes = await ada.services.store.changes.read(ADA.user, 1, head.last_change)
    assert len(changes) == head.last_change
    return [change.data for change in changes if isinstance(change.data, GapOpened | GapHealed)]


def replay_gaps(events: list[GapOpened | GapHealed]) -> list[Gap]:
    """Open gaps as seen by a consumer, by their start: opened ones without healed ones."""
    open_by: dict[datetime, Gap] = {}
    for each in events:
        if isinstance(each, GapOpened):
            open_by[each.gap.after] = each.gap
        else:
            del open_by[each.gap.after]
    return [open_by[after] for after in sorted(open_by)]


@pytest.mark.slow
async def test_after_the_past_is_read_every_true_gap_of_it_is_open_and_no_other() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=40)) as service:
        ada = ConnectedUser(service)
        await service.connect("ada")
        await poll_for(ada, MINUTE)
        stored = await ada.measured_values()
        expected = true_gaps(ada, stored[0][0], START - 2 * HOUR)  # type: ignore[arg-type]
        assert len(expected) > 20
        gaps = await open_gaps(ada)
        assert [(gap.after, gap.before) for gap in gaps] == expected
        assert {gap.cadence_seconds for gap in gaps} == {300}
        warm_ups = [gap for gap in gaps if gap.cause is Cause.SENSOR_WARM_UP]
        assert {gap.cause for gap in gaps} == {Cause.SENSOR_WARM_UP, Cause.PROVIDER_HAS_NOTHING}
        assert all(115 * MINUTE < gap.before - gap.after < 150 * MINUTE for gap in warm_ups if gap.before)
        assert 3 <= len(warm_ups) <= 4
        assert replay_gaps(await gap_events(ada)) == gaps


@pytest.mark.slow
async def test_what_is_missing_between_readings_is_opened_once_it_is_overdue_and_healed_when_it_comes(
    ada: ConnectedUser,
) -> None:
    await poll_for(ada, MINUTE)
    before = len(await read_gaps(ada))
    begins = ada.service.clock.now() + HOUR
    shown_at = begins + 5 * HOUR
    ada.service.simulator.add_fault(Late(start=begins, end=begins + HOUR / 2, shown_at=shown_at))
    await poll_for(ada, 2 * HOUR)
    assert not [gap for gap in (await read_gaps(ada))[before:] if gap.start >= begins - 5 * MINUTE]
    await poll_for(ada, 2 * HOUR)
    (gap,) = [gap for gap in await open_gaps(ada) if begins <= gap.start < begins + 6 * MINUTE]
    assert gap.missing == 6
    assert gap.cause is Cause.PROVIDER_HAS_NOTHING
    assert gap.opened_at > gap.start + HOUR
    await poll_for(ada, DAY + 2 * HOUR)
    (healed,) = [each for each in await read_gaps(ada) if each.after == gap.after]
    assert healed.healed_at is not None
    assert shown_at < healed.healed_at < shown_at + 4 * HOUR + 20 * MINUTE, "a repair after four hours finds it"
    assert replay_gaps(await gap_events(ada)) == await open_gaps(ada)


@pytest.mark.parametrize(("first", "last"), [(0, 30), (30, 60), (20, 40)])
async def test_late_readings_that_fill_a_part_shrink_or_split_it(ada: ConnectedUser, first: int, last: int) -> None:
    begins = ada.service.clock.now() + 10 * MINUTE
    ada.service.simulator.add_fault(Late(start=begins, end=begins + HOUR, shown_at=START + 90 * DAY))
    await poll_for(ada, 3 * HOUR)
    (whole,) = [gap for gap in await open_gaps(ada) if begins <= gap.start < begins + 6 * MINUTE]
    ada.service.simulator.clear_faults()
    for start, end in ((0, first), (last, 60)):
        if start < end:
            ada.service.simulator.add_fault(
                Late(start=begins + start * MINUTE, end=begins + end * MINUTE, shown_at=START + 90 * DAY)
            )
    await poll_for(ada, HOUR)
    gaps = [gap for gap in await open_gaps(ada) if begins <= gap.start < begins + HOUR]
    expected = [
        pair
        for pair in true_gaps(ada, begins - HOUR, begins + 2 * HOUR)
        if begins - 5 * MINUTE <= pair[0] < begins + HOUR
    ]
    assert [(gap.after, gap.before) for gap in gaps] == expected
    assert len(gaps) == (first > 0) + (last < 60)
    assert {gap.opened_at for gap in gaps} == {whole.opened_at}, "the rest has been missing as long"
    assert replay_gaps(await gap_events(ada)) == await open_gaps(ada)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Late(start=START + HOUR, end=START + 9 * HOUR, shown_at=START + 9 * HOUR), Cause.PROVIDER_HAS_NOTHING),
        (Failed(endpoint="egvs"), Cause.PROVIDER_FAILING),
        (Html(endpoint="egvs"), Cause.PROVIDER_FAILING),
        (Throttled(endpoint="egvs", retry_after=600), Cause.THROTTLED),
        (Failed(endpoint="egvs", status=403), Cause.PROVIDER_FORBIDDEN),
        (Failed(endpoint="token", status=400), Cause.PROVIDER_FAILING),
    ],
)
async def test_a_silence_is_one_open_gap_with_its_cause_and_heals_when_all_has_come(
    ada: ConnectedUser, fault: Fault, cause: Cause
) -> None:
    await poll_for(ada, HOUR - MINUTE)
    settled = await open_gaps(ada)
    ada.service.simulator.add_fault(fault)
    await poll_for(ada, 7 * HOUR)
    (gap,) = [gap for gap in await open_gaps(ada) if gap not in settled and gap.before is None]
    assert (gap.cause, gap.missing) == (cause, None)
    assert gap.after == (await ada.connection()).newest_reading_at
    assert gap.opened_at - gap.after < (8 if cause is Cause.PROVIDER_FORBIDDEN else 3) * HOUR
    assert [each.gap for each in await gap_events(ada) if each.gap.after == gap.after] == [gap], "published once"
    ada.service.simulator.clear_faults()
    await poll_for(ada, 10 * HOUR)
    (healed,) = [each for each in await read_gaps(ada) if each.after == gap.after]
    assert healed.healed_at is not None
    assert not [each for each in await open_gaps(ada) if each.before is None]
    assert replay_gaps(await gap_events(ada)) == await open_gaps(ada)


@pytest.mark.slow
async def test_a_silence_after_the_grant_was_taken_back_says_so_and_heals_after_another_connect(
    ada: ConnectedUser,
) -> None:
    await poll_for(ada, HOUR - MINUTE)
    settled = await open_gaps(ada)
    ada.service.simulator.revoke("SandboxUser1")
    await poll_for(ada, 7 * HOUR)
    (gap,) = [gap for gap in await open_gaps(ada) if gap not in settled and gap.before is None]
    assert (gap.cause, gap.missing) == (Cause.REAUTHORIZATION_REQUIRED, None)
    await poll_for(ada, 40 * HOUR)
    assert (await ada.connection()).state is ConnectionState.REAUTHORIZATION_REQUIRED
    assert gap in await open_gaps(ada)
    await ada.connect()
    ada.state = PollState()
    await poll_for(ada, 10 * HOUR)
    assert not [each for each in await open_gaps(ada) if each.before is None]
    assert replay_gaps(await gap_events(ada)) == await open_gaps(ada)


async def test_a_silence_that_ends_with_readings_missing_is_a_gap_with_an_end(ada: ConnectedUser) -> None:
    now = ada.service.clock.now()
    ada.service.simulator.add_fault(Late(start=now, end=now + 8 * HOUR, shown_at=START + 90 * DAY))
    await poll_for(ada, 7 * HOUR)
    (silence,) = [gap for gap in await open_gaps(ada) if gap.before is None]
    await poll_for(ada, 3 * HOUR)
    (gap,) = [gap for gap in await open_gaps(ada) if gap.after == silence.after]
    assert gap.before is not None
    assert now + 8 * HOUR <= gap.before < now + 8 * HOUR + 6 * MINUTE
    assert gap.opened_at == silence.opened_at
    assert [type(each) for each in await gap_events(ada) if each.gap.after == gap.after] == [GapOpened, GapOpened]


async def test_what_is_missing_because_we_were_down_says_so(ada: ConnectedUser) -> None:
    await poll_for(ada, HOUR)
    await anyio.sleep((12 * HOUR).total_seconds())
    ada.state = PollState()
    ada.service.simulator.add_fault(Failed(endpoint="egvs"))
    await poll_for(ada, HOUR)
    (gap,) = [gap for gap in await open_gaps(ada) if gap.before is None]
    assert gap.cause is Cause.SERVICE_DOWN


async def test_polls_further_apart_than_two_hours_do_not_count_as_down_time() -> None:
    async with open_service(defaults=PollDefaults(6 * HOUR, backfill_days=1)) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        await poll_for(ada, MINUTE)
        service.simulator.add_fault(Failed(endpoint="egvs"))
        await poll_for(ada, 20 * HOUR)
        (gap,) = [gap for gap in await open_gaps(ada) if gap.before is None]
        assert gap.cause is Cause.PROVIDER_FAILING


async def test_after_down_time_no_gap_is_opened_that_a_poll_fills(ada: ConnectedUser) -> None:
    await poll_for(ada, HOUR)
    settled = len(await gap_events(ada))
    await anyio.sleep((12 * HOUR).total_seconds())
    ada.state = PollState()
    await poll_for(ada, 2 * HOUR)
    assert all(each.gap.before is not None for each in (await gap_events(ada))[settled:])
    stored = await ada.measured_values()
    end = ada.service.clock.now() - 90 * MINUTE
    assert [(gap.after, gap.before) for gap in await open_gaps(ada) if gap.before and gap.before < end] == true_gaps(
        ada,
        stored[0][0],  # type: ignore[arg-type]
        end,
    )


@pytest.mark.slow
async def test_readings_of_one_minute_are_checked_by_the_minute() -> None:
    async with open_service(simulated=SimulatorOptions(cadence_minutes=1), defaults=ONE_DAY) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        await poll_for(ada, MINUTE)
        gaps = await open_gaps(ada)
        assert {gap.cadence_seconds for gap in gaps} == {60}
        assert min(gap.before - gap.after for gap in gaps if gap.before) < 4 * MINUTE


@pytest.mark.slow
async def test_checking_gaps_again_after_each_start_publishes_nothing_twice() -> None:
    """Each event is published once: a consumer's replay would fail on a second healing."""
    async with open_service(defaults=PollDefaults(backfill_days=10)) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        for _ in range(5):
            ada.state = PollState()
            await poll_for(ada, HOUR)
        events = await gap_events(ada)
        assert len({(type(each), each.gap.after, each.gap.before) for each in events}) == len(events)
        assert replay_gaps(events) == await open_gaps(ada)


@pytest.mark.slow
async def test_what_is_unread_is_not_missing() -> None:
    """While the past is being read, some windows have not been requested yet."""
    async with open_service(defaults=ONE_DAY) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        await poll_for(ada, MINUTE)
        await anyio.sleep((40 * DAY).total_seconds())
        ada.state = PollState()
        report = await ada.poll()  # the newest 30 days; the ten before them join the backfill
        connection = await ada.connection()
        assert connection.backfill is not None
        service.simulator.add_fault(Failed(endpoint="egvs"))
        rhythm = ada.services.poller.rhythm(connection)
        await build_gap_keeper(ada.services).check(connection, rhythm, service.provider.capabilities)
        assert not [gap for gap in await open_gaps(ada) if gap.start >= START - 2 * HOUR]
        service.simulator.clear_faults()
        while report.due is not None and report.due <= service.clock.now():
            report = await ada.poll()
        stored = await ada.measured_values()
        end = service.clock.now() - 2 * HOUR
        gaps = [(gap.after, gap.before) for gap in await open_gaps(ada) if gap.before and gap.before < end]
        assert gaps == true_gaps(ada, stored[0][0], end)  # type: ignore[arg-type]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_gap_shows_though_its_beginning_is_not_read_again_by_the_time_it_is_overdue(*, restarted: bool) -> None:
    """Hourly polls, readings an hour late: no poll finds a silence that long, and the delay exceeds the overlap."""
    options = SimulatorOptions(delay_seconds=3600)
    defaults = PollDefaults(HOUR, backfill_days=1, overlap=HOUR / 2, sweep_depth=SweepDepth(timedelta(0), timedelta(0)))
    async with open_service(simulated=options, defaults=defaults) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        begins = service.clock.now() - 30 * MINUTE
        service.simulator.add_fault(Late(start=begins, end=begins + 70 * MINUTE, shown_at=START + 90 * DAY))
        await poll_for(ada, 3 * HOUR)
        if restarted:
            ada.state = PollState()
        await poll_for(ada, 2 * HOUR)
        (gap,) = [gap for gap in await open_gaps(ada) if begins <= gap.start < begins + 6 * MINUTE]
        assert gap.before is not None
        assert gap.opened_at < gap.before + 3 * HOUR + 10 * MINUTE


@pytest.mark.slow
async def test_a_gap_shows_though_the_page_that_had_it_was_stored_in_part_only() -> None:
    """The first commit of a page stores the gap, because the next page begins after it."""
    broken: list[FaultyCalls] = []

    def breaking(table: object) -> FaultyCalls:
        broken.append(FaultyCalls(table, lambda _: None, only={"transact"}))
        return broken[0]

    options = SimulatorOptions(delay_seconds=60, cadence_minutes=1)
    defaults = PollDefaults(DAY, backfill_days=1, overlap=HOUR / 2, sweep_depth=SweepDepth(timedelta(0), timedelta(0)))
    async with open_service(simulated=options, defaults=defaults, around=breaking) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        report = await ada.poll()
        while report.due is not None and report.due < service.clock.now() + HOUR:
            report = await ada.poll_when_due(report)
        begins = service.clock.now() + HOUR
        service.simulator.add_fault(Late(start=begins, end=begins + HOUR, shown_at=START + 90 * DAY))
        second = broken[0].calls + 2
        broken[0].plan = lambda call: StoreFault.BEFORE if call == second else None
        report = await ada.poll_when_due(report)
        assert report.result.outcome is Outcome.STORE_UNAVAILABLE
        kept = await ada.connection()
        assert kept.newest_reading_at is not None
        assert begins + HOUR < kept.newest_reading_at < service.clock.now() - HALF_A_DAY
        assert kept.suspected_gap_at is not None, "later missing readings would cause the check as well, by chance"
        assert abs(kept.suspected_gap_at - begins - HOUR) < 2 * MINUTE
        await poll_for(ada, 2 * HOUR)
        assert [gap for gap in await open_gaps(ada) if begins <= gap.start < begins + 2 * MINUTE]


async def test_a_gap_is_suspected_though_the_provider_has_withdrawn_the_readings_before_it(ada: ConnectedUser) -> None:
    report = await ada.poll()
    while report.due is not None and report.due < START + HOUR:
        report = await ada.poll_when_due(report)
    newest = (await ada.connection()).newest_reading_at
    assert newest is not None
    hidden = Late(start=newest - 12 * MINUTE, end=newest + HOUR, shown_at=START + 90 * DAY)
    ada.service.simulator.add_fault(hidden)
    assert (await ada.connection()).suspected_gap_at is None
    await anyio.sleep((newest + HOUR + 20 * MINUTE - ada.service.clock.now()).total_seconds())
    await ada.poll()
    suspected = (await ada.connection()).suspected_gap_at
    assert suspected is not None
    assert hidden.end <= suspected < hidden.end + 6 * MINUTE
