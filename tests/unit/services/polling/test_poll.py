from datetime import timedelta
from typing import Any, cast

import anyio
import msgspec
import pytest

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.domain.changes import ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.connections import ConnectionState, PollDefaults
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.polling import Outcome, PollResult, PollState
from bg_ingest.domain.readings import Origin, Unreadable
from bg_ingest.domain.windows import Window
from bg_ingest.ports import Clock, Observer, Page, Priority, Provider
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.polling.outcomes import FORBIDDEN_WAIT
from bg_ingest.services.polling.quarantine import MAX_RECORDS_PER_PAGE, Quarantine
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import (
    Damaged,
    Duplicated,
    Failed,
    Fault,
    Html,
    Late,
    ReplyLost,
    Reset,
    Revised,
    Shuffled,
    Throttled,
    Truncated,
)
from tests.fakes.faults import Fault as StoreFault
from tests.fakes.faults import FaultyCalls, every
from tests.harness.connected_user import ADA, ConnectedUser
from tests.harness.polling_parts import build_ingester
from tests.harness.service import START, open_service

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


async def published_data(ada: ConnectedUser) -> list[object]:
    """What happened to Ada, by number."""
    head = await ada.services.store.readings.head(ADA.user)
    assert head is not None
    changes = await ada.services.store.changes.read(ADA.user, 1, head.last_change)
    assert len(changes) == head.last_change
    return [change.data for change in changes]


async def test_polls_lie_on_the_sensors_grid_and_bring_each_reading_once(ada: ConnectedUser) -> None:
    report = await ada.poll()
    for _ in range(20):
        report = await ada.poll_when_due(report)
        while report.origin is not Origin.LIVE:  # a repair, a survey: due at once
            report = await ada.poll_when_due(report)
        assert report.result.outcome is Outcome.READ
        assert report.result.recorded == 3
    stored = await ada.measured_values()
    assert stored == ada.service.true_values("SandboxUser1", START - DAY, ada.service.clock.now())[-len(stored) :]
    assert len(stored) == len(set(stored))


async def test_case_17_late_readings_are_found_by_the_overlap_and_do_not_move_the_watermark_back(
    ada: ConnectedUser,
) -> None:
    now = ada.service.clock.now()
    shown = now + 2 * HOUR
    ada.service.simulator.add_fault(Late(start=now + 20 * MINUTE, end=now + 50 * MINUTE, shown_at=shown))
    report = await ada.poll()
    while ada.service.clock.now() < shown:
        report = await ada.poll_when_due(report)
    before = (await ada.connection()).watermark
    report = await ada.poll_when_due(report)
    after = (await ada.connection()).watermark
    assert before is not None
    assert after is not None
    assert after >= before
    stored = await ada.measured_values()
    assert stored == ada.service.true_values("SandboxUser1", START - DAY, ada.service.clock.now())[-len(stored) :]


async def test_case_15_a_reading_on_the_boundary_of_two_windows_is_stored_and_published_once(
    ada: ConnectedUser,
) -> None:
    boundary, _ = ada.service.true_values("SandboxUser1", START - 4 * DAY, START - 3 * DAY)[100]
    connection, grant = await ada.connection(), await ada.grant()
    provider = ada.service.provider
    ingester = build_ingester(ada.services, AesGcmSealer([bytes(32)]), connection, provider.capabilities)
    for window in (Window(boundary, boundary + HOUR), Window(boundary - HOUR, boundary)):

        async def ask(credentials: Credentials, asked: Window = window) -> Page:
            return await provider.readings(connection.region, credentials, asked, Priority.BACKFILL)

        page = await ada.services.grants.use(connection, grant, ask)
        assert boundary in [each.measured_at for each in page.readings], "both windows bring it"
        await ingester.ingest(connection, page, origin=Origin.BACKFILL)
    assert [at for at, _ in await ada.measured_values()].count(boundary) == 1
    published = [
        each for what in await published_data(ada) if isinstance(what, ReadingsRecorded) for each in what.readings
    ]
    assert [each.reading.measured_at for each in published].count(boundary) == 1
    assert not [what for what in await published_data(ada) if isinstance(what, ReadingsRevised)]


async def test_late_readings_alone_are_published_with_the_overlap_as_origin() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=1)) as other:
        late = ConnectedUser(other)
        other.simulator.add_fault(Late(start=START - HOUR, end=START - HOUR / 2, shown_at=START + MINUTE))
        await late.connect()
        await anyio.sleep(61)
        assert (await late.poll(requested=True)).result.recorded == 6
        published = (await published_data(late))[-1]
        assert isinstance(published, ReadingsRecorded)
        assert published.origin is Origin.OVERLAP


async def test_case_18_the_same_again_writes_and_publishes_nothing(ada: ConnectedUser) -> None:
    before = await published_data(ada)
    ada.service.simulator.add_fault(Duplicated())
    ada.service.simulator.add_fault(Shuffled())
    assert (await ada.poll(requested=True)).result.recorded == 0
    assert await published_data(ada) == before


async def test_case_18_another_value_is_a_revision_that_keeps_the_earlier_one(ada: ConnectedUser) -> None:
    now = ada.service.clock.now()
    old = dict(await ada.measured_values())
    ada.service.simulator.add_fault(Revised(start=now - HOUR, end=now - HOUR / 2, revised_at=now, by=7))
    report = await ada.poll(requested=True)
    assert report.result.revised == 6
    published = (await published_data(ada))[-1]
    assert isinstance(published, ReadingsRevised)
    assert [each.reading.glucose_mg_dl - each.earlier[-1].glucose_mg_dl for each in published.readings] == [7] * 6
    assert [each.earlier[-1].glucose_mg_dl for each in published.readings] == [
        old[each.reading.measured_at] for each in published.readings
    ]
    assert (await ada.poll(requested=True)).result.revised == 0


async def test_case_35_a_bad_record_is_quarantined_and_the_rest_of_its_page_is_stored(ada: ConnectedUser) -> None:
    ada.service.simulator.add_fault(Damaged(every=3, ways=("no_value", "unknown_unit")))
    await anyio.sleep(3600)
    report = await ada.poll()
    assert report.result.quarantined > 0
    assert report.result.recorded > 0
    assert (await ada.poll(requested=True)).result.quarantined == 0, "the same record again is known"
    ada.service.simulator.clear_faults()
    await ada.poll(requested=True)
    stored = await ada.measured_values()
    assert stored == ada.service.true_values("SandboxUser1", START - DAY, ada.service.clock.now())[-len(stored) :]


async def test_bad_records_all_over_a_month_are_quarantined_in_as_many_commits_as_they_need() -> None:
    async with open_service() as service:
        ada = ConnectedUser(service)
        service.simulator.add_fault(Damaged(every=30, ways=("no_value",)))
        await service.connect("ada")
        report = await ada.poll()
        assert report.result.outcome is Outcome.READ
        assert report.result.quarantined > 250
        assert report.result.recorded > 8_000


@pytest.mark.parametrize(
    ("fault", "ending"),
    [
        (Failed(endpoint="egvs"), Outcome.UNAVAILABLE),
        (Reset(endpoint="egvs"), Outcome.UNAVAILABLE),
        (ReplyLost(endpoint="egvs"), Outcome.UNAVAILABLE),
        (Html(endpoint="egvs"), Outcome.MISBEHAVED),
        (Truncated(endpoint="egvs"), Outcome.MISBEHAVED),
    ],
)
async def test_case_22_and_38_trouble_moves_nothing_and_is_tried_again_soon_then_at_the_slots(
    ada: ConnectedUser, fault: Fault, ending: Outcome
) -> None:
    number = ada.service.simulator.add_fault(fault)
    await anyio.sleep(1200)
    before = await ada.connection()
    report = await ada.poll()
    waits = []
    for _ in range(5):
        assert report.result.outcome is ending
        assert report.due is not None
        waits.append((report.due - ada.service.clock.now()).total_seconds())
        report = await ada.poll_when_due(report)
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[4] > 60
    after = await ada.connection()
    assert after.watermark == before.watermark
    assert after.last_outcome == ending
    ada.service.simulator.faults.remove(number)
    report = await ada.poll_when_due(report)
    assert report.result.outcome is Outcome.READ
    assert report.state.failures == 0


async def test_case_36_throttled_it_stays_away_as_long_as_it_was_asked_to(ada: ConnectedUser) -> None:
    ada.service.simulator.add_fault(Throttled(endpoint="egvs", retry_after=90, count=1))
    report = await ada.poll(requested=True)
    assert report.result.outcome is Outcome.THROTTLED
    assert report.due is not None
    assert 90 <= (report.due - ada.service.clock.now()).total_seconds() <= 90 * 1.25


async def test_case_40_a_forbidden_connection_says_so_polls_seldom_and_heals_by_itself(ada: ConnectedUser) -> None:
    number = ada.service.simulator.add_fault(Failed(endpoint="egvs", status=403))
    report = await ada.poll(requested=True)
    assert report.result.outcome is Outcome.FORBIDDEN
    assert report.due == ada.service.clock.now() + FORBIDDEN_WAIT
    assert (await ada.connection()).state is ConnectionState.PROVIDER_FORBIDDEN
    assert (await ada.poll_when_due(report)).result.outcome is Outcome.FORBIDDEN
    ada.service.simulator.faults.remove(number)
    assert (await ada.poll(requested=True)).result.outcome is Outcome.READ
    assert (await ada.connection()).state is ConnectionState.ACTIVE


async def test_the_first_backfill_takes_as_few_calls_as_the_provider_allows_newest_first() -> None:
    async with open_service() as service:
        ada = ConnectedUser(service)
        await service.connect("ada")
        first = await ada.poll()
        assert first.result.outcome is Outcome.READ
        newest = await ada.measured_values()
        assert newest[-1] == service.true_values("SandboxUser1", START - HOUR, START)[-1]
        await ada.read_backfill()
        calls = {endpoint: number for (endpoint, status), number in service.simulator.calls.items() if status == 200}
        assert calls == {"token": 1, "dataRange": 1, "egvs": 3}
        assert await ada.measured_values() == service.true_values("SandboxUser1", newest[-1][0] - 90 * DAY, START)


async def test_case_21_a_backfill_that_is_cut_off_goes_on_where_it_was() -> None:
    async with open_service() as service:
        ada = ConnectedUser(service)
        await service.connect("ada")
        await ada.poll()
        ada.state = PollState()  # a new process knows nothing
        await ada.read_backfill()
        assert service.simulator.calls["egvs", 200] == 3
        assert len(await ada.measured_values()) == len(set(await ada.measured_values()))


async def test_a_process_that_starts_polls_at_once_where_a_slot_was_missed_and_else_at_the_slot(
    ada: ConnectedUser,
) -> None:
    ada.state = PollState()
    report = await ada.poll()
    assert report.result.outcome is Outcome.NOT_DUE
    assert report.due is not None
    await anyio.sleep(DAY.total_seconds())
    ada.state = PollState()
    assert (await ada.poll()).result.outcome is Outcome.READ


async def test_after_a_silence_longer_than_a_window_the_past_is_read_after_what_is_new(ada: ConnectedUser) -> None:
    await anyio.sleep((40 * DAY).total_seconds())
    first = await ada.poll()
    assert first.result.outcome is Outcome.READ
    assert first.due == ada.service.clock.now(), "there is more to read"
    await ada.read_backfill()
    stored = await ada.measured_values()
    assert stored == ada.service.true_values("SandboxUser1", START - DAY, ada.service.clock.now())[-len(stored) :]


async def test_a_sensor_long_silent_costs_one_more_call_a_day_not_one_at_each_poll() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=1)) as service:
        ada = ConnectedUser(service)
        service.simulator.add_fault(Late(start=START, end=START + 400 * DAY, shown_at=START + 800 * DAY))
        await ada.connect()
        await anyio.sleep((60 * DAY).total_seconds())
        report = await ada.poll()
        for _ in range(30):  # catch up
            if report.due == service.clock.now():
                report = await ada.poll()
        service.provider.asked.clear()
        for _ in range(24):
            report = await ada.poll_when_due(report)
            while report.origin is not Origin.LIVE:
                report = await ada.poll_when_due(report)
        kinds = [each.priority for each in service.provider.asked]
        assert kinds.count(Priority.LIVE) == 24
        assert kinds.count(Priority.BACKFILL) <= 1
        assert kinds.count(Priority.REPAIR) <= 6, "a sweep, and what is missing from before the silence"


async def test_case_28_readings_from_the_future_do_not_blind_the_polls(ada: ConnectedUser) -> None:
    before = await ada.connection()
    ahead = msgspec.structs.replace(before, watermark=ada.service.clock.now() + 5 * HOUR)
    await ada.services.store.connections.update(before, ahead)
    await anyio.sleep(1200)
    assert (await ada.poll()).result.recorded == 4


class ProviderAheadOfClock:
    """A provider whose newest reading is of a sensor ten minutes ahead."""

    def __init__(self, inner: Any, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def readings(self, *asked: Any) -> Page:
        page: Page = await self._inner.readings(*asked)
        ahead = msgspec.structs.replace(page.readings[-1], measured_at=self._clock.now() + 10 * MINUTE)
        return msgspec.structs.replace(page, readings=(*page.readings, ahead))


async def test_case_28_a_sensor_that_is_ahead_does_not_take_the_watermark_into_the_future(ada: ConnectedUser) -> None:
    provider, clock = ada.service.provider, ada.service.clock
    provider.inner = cast("Provider", ProviderAheadOfClock(provider.inner, clock))
    await anyio.sleep(1200)
    assert (await ada.poll()).result.outcome is Outcome.READ
    connection = await ada.connection()
    assert connection.watermark == clock.now()
    assert connection.newest_reading_at == clock.now() + 10 * MINUTE
    await anyio.sleep(60)
    await ada.poll(requested=True)
    assert (await ada.connection()).watermark == clock.now(), "and it goes on from there"


async def test_another_persons_answer_is_not_stored(ada: ConnectedUser) -> None:
    connection = await ada.connection()
    await ada.services.store.connections.update(
        connection, msgspec.structs.replace(connection, provider_account="f" * 64)
    )
    await anyio.sleep(1200)
    before = await ada.measured_values()
    assert (await ada.poll()).result.outcome is Outcome.MISBEHAVED
    assert await ada.measured_values() == before


@pytest.mark.parametrize("when", [StoreFault.BEFORE, StoreFault.AFTER])
@pytest.mark.parametrize("number", [3, 4, 5, 7])
async def test_a_store_that_fails_at_every_nth_call_loses_and_doubles_nothing(when: StoreFault, number: int) -> None:
    broken: list[FaultyCalls] = []

    def breaking(table: object) -> FaultyCalls:
        broken.append(FaultyCalls(table, lambda _: None))
        return broken[0]

    async with open_service(defaults=PollDefaults(backfill_days=3), around=breaking) as service:
        ada = ConnectedUser(service)
        await service.connect("ada")
        broken[0].plan = every(number, when)
        for _ in range(40):
            await ada.poll()
            await anyio.sleep(120)
        broken[0].plan = lambda _: None
        await ada.read_backfill()
        await ada.poll(requested=True)
        stored = await ada.measured_values()
        assert stored == service.true_values("SandboxUser1", stored[0][0], service.clock.now())  # type: ignore[arg-type]
        assert stored[0][0] <= START - 3 * DAY + HOUR  # type: ignore[operator]
        published = [
            each for what in await published_data(ada) if isinstance(what, ReadingsRecorded) for each in what.readings
        ]
        assert sorted(each.reading.measured_at for each in published) == [at for at, _ in stored]


async def test_a_cadence_of_one_minute_is_learned_and_polled_by() -> None:
    simulated = SimulatorOptions(cadence_minutes=1)
    async with open_service(simulated=simulated, defaults=PollDefaults(2 * MINUTE, backfill_days=1)) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        assert (await ada.connection()).cadence_seconds == 60
        report = await ada.poll_when_due(await ada.poll())
        assert report.result.recorded == 2


async def test_case_23_a_catch_up_that_is_cut_off_leaves_nothing_unread() -> None:
    """After a silence longer than a window, the watermark rises only together with the note of what is before it."""
    broken: list[FaultyCalls] = []

    def breaking(table: object) -> FaultyCalls:
        broken.append(FaultyCalls(table, lambda _: None, only={"transact"}))
        return broken[0]

    async with open_service(defaults=PollDefaults(backfill_days=1), around=breaking) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        await anyio.sleep((40 * DAY).total_seconds())
        second = broken[0].calls + 2
        broken[0].plan = lambda call: StoreFault.BEFORE if call == second else None
        report = await ada.poll()
        assert report.result.outcome is Outcome.STORE_UNAVAILABLE
        ada.state = PollState()  # the next process knows nothing of it
        await ada.poll_when_due(report)
        await ada.read_backfill()
        stored = await ada.measured_values()
        assert stored == service.true_values("SandboxUser1", START - DAY, service.clock.now())[-len(stored) :]
        assert len(stored) > 40 * 280


async def test_a_requested_poll_that_failed_is_tried_again_soon(ada: ConnectedUser) -> None:
    await ada.poll_when_due(await ada.poll())
    await anyio.sleep(400)
    ada.service.simulator.add_fault(Failed(endpoint="egvs", count=1))
    report = await ada.poll(requested=True)
    assert report.result.outcome is Outcome.UNAVAILABLE
    assert (await ada.poll_when_due(report)).result.outcome is Outcome.READ


async def test_a_connection_that_is_forbidden_and_allowed_by_turns_is_not_polled_in_a_hurry(ada: ConnectedUser) -> None:
    simulator = ada.service.simulator
    async with ada.service.running():
        await anyio.sleep(60)
        before = sum(simulator.calls.values())
        for _ in range(20):
            simulator.add_fault(Failed(endpoint="egvs", status=403, count=1))
            ada.service.workers.wake_poller(ADA)
            await anyio.sleep(1)
        assert sum(simulator.calls.values()) - before <= 2 * 20


async def test_a_grant_that_cannot_be_opened_says_so(ada: ConnectedUser) -> None:
    other, _ = ada.service.new_process(sealer=AesGcmSealer([bytes([1] * 32)]))
    await anyio.sleep(1200)
    assert (await other.poller.poll(ADA, 1, ada.state)).result.outcome is Outcome.UNSEALABLE


async def test_records_of_any_size_are_quarantined_within_the_size_limit_of_an_item(ada: ConnectedUser) -> None:
    """DynamoDB's 400 KB: beyond it nothing of the page could ever be stored."""
    huge = tuple(Unreadable("not_a_record", b"%d" % number * 5_000, START) for number in range(300))
    observer, store = Observer(), ada.services.store
    committer = Committer(store, observer, ada.service.workers)
    quarantine = Quarantine(store.readings, committer, observer, AesGcmSealer([bytes(32)]), ada.services.clock, "test")
    connection = await ada.connection()
    kept = PollResult(Outcome.NOTHING_NEW, quarantined=MAX_RECORDS_PER_PAGE, not_kept=100)
    assert await quarantine.add(connection, huge) == kept
    assert await quarantine.add(connection, huge) == msgspec.structs.replace(kept, quarantined=0), (
        "nothing is lost silently"
    )
    pages = await ada.services.store.quarantine.read_pages(ADA.user, [START])
    assert sum(len(each.sealed) for each in pages[START].records) < 390_000
