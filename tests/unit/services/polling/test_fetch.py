"""Windows of each kind of fetch, progress of watermark and backfill, late and slow sensors, outcomes of errors."""

from datetime import timedelta
from typing import Any, cast

import anyio
import msgspec
import pytest

from bg_ingest.domain.changes import ReadingsRecorded
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.polling import Outcome, PollState
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.schedule import SweepDepth
from bg_ingest.errors import (
    Fenced,
    GrantBusy,
    GrantLost,
    GrantRefused,
    IngestError,
    ItemTooLarge,
    ProviderForbidden,
    ProviderMisbehaved,
    ProviderThrottled,
    ProviderUnavailable,
    SealBroken,
    StoreError,
    StoreUnavailable,
)
from bg_ingest.ports import Clock, Page, Priority, Provider
from bg_ingest.services.polling.fetch import outcome_of, retry_at
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import (
    Failed,
    Late,
)
from tests.fakes.clock import NOON
from tests.fakes.faults import Fault as StoreFault
from tests.fakes.faults import FaultyCalls
from tests.harness.connected_user import ConnectedUser
from tests.harness.service import START, open_service

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SLOT = NOON + 15 * MINUTE
EVERY_TWO_HOURS = PollDefaults(2 * HOUR, backfill_days=1)


async def poll_for(ada: ConnectedUser, until: timedelta) -> None:
    """Run every poll that is due."""
    end = ada.service.clock.now() + until
    report = await ada.poll()
    while report.due is not None and report.due < end:
        report = await ada.poll_when_due(report)
    await anyio.sleep((end - ada.service.clock.now()).total_seconds())


async def is_complete(ada: ConnectedUser, since: timedelta = timedelta(0)) -> bool:
    """Return True if all readings that the provider has up to the last poll are stored."""
    stored = await ada.measured_values()
    first, last = START - DAY + since, stored[-1][0]
    true = ada.service.true_values("SandboxUser1", first, last)  # type: ignore[arg-type]
    return [row for row in stored if row[0] >= first] == true  # type: ignore[operator]


class ProviderAheadOfClock:
    """Provider with a newest reading of a sensor ten minutes ahead."""

    def __init__(self, inner: Any, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def readings(self, *asked: Any) -> Page:
        page: Page = await self._inner.readings(*asked)
        ahead = msgspec.structs.replace(page.readings[-1], measured_at=self._clock.now() + 10 * MINUTE)
        return msgspec.structs.replace(page, readings=(*page.readings, ahead))


class ProviderBesideWebhook:
    """Provider whose newest reading is pushed during each call of a poll."""

    def __init__(self, ada: ConnectedUser) -> None:
        self._inner = ada.service.provider.inner
        self._ada = ada

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def readings(self, *asked: Any) -> Page:
        page: Page = await self._inner.readings(*asked)
        newest = msgspec.structs.replace(page, readings=page.readings[-1:])
        ingester = self._ada.services.poller.fetcher.ingester
        await ingester.ingest(await self._ada.connection(), newest, origin=Origin.WEBHOOK)
        return page


async def test_a_webhook_during_the_call_of_a_poll_is_not_stored_again(ada: ConnectedUser) -> None:
    ada.service.provider.inner = cast("Provider", ProviderBesideWebhook(ada))
    report = await ada.poll_when_due(await ada.poll())
    assert report.result.recorded == 2
    stored = await ada.measured_values()
    assert stored == ada.service.true_values("SandboxUser1", START - DAY, ada.service.clock.now())[-len(stored) :]
    recorded = [data for data in await ada.published_data() if isinstance(data, ReadingsRecorded)]
    assert [len(data.readings) for data in recorded[-2:]] == [1, 2]


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


@pytest.mark.slow
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


@pytest.mark.slow
async def test_case_21_a_backfill_that_is_cut_off_goes_on_where_it_was() -> None:
    async with open_service() as service:
        ada = ConnectedUser(service)
        await service.connect("ada")
        await ada.poll()
        ada.state = PollState()  # as in a new process
        await ada.read_backfill()
        assert service.simulator.calls["egvs", 200] == 3
        assert len(await ada.measured_values()) == len(set(await ada.measured_values()))


@pytest.mark.slow
async def test_after_a_silence_longer_than_a_window_the_older_part_is_read_last(ada: ConnectedUser) -> None:
    await anyio.sleep((40 * DAY).total_seconds())
    first = await ada.poll()
    assert first.result.outcome is Outcome.READ
    assert first.due == ada.service.clock.now(), "there is more to read"
    await ada.read_backfill()
    stored = await ada.measured_values()
    assert stored == ada.service.true_values("SandboxUser1", START - DAY, ada.service.clock.now())[-len(stored) :]


@pytest.mark.slow
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
        kinds = [call.priority for call in service.provider.asked]
        assert kinds.count(Priority.LIVE) == 24
        assert kinds.count(Priority.BACKFILL) <= 1
        assert kinds.count(Priority.REPAIR) <= 6, "a sweep, and repairs of gaps before the silence"


async def test_case_28_a_watermark_in_the_future_does_not_stop_the_polls(ada: ConnectedUser) -> None:
    before = await ada.connection()
    ahead = msgspec.structs.replace(before, watermark=ada.service.clock.now() + 5 * HOUR)
    await ada.services.store.connections.update(before, ahead)
    await anyio.sleep(1200)
    assert (await ada.poll()).result.recorded == 4


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
    assert (await ada.connection()).watermark == clock.now(), "later polls advance it"


async def test_another_persons_answer_is_not_stored(ada: ConnectedUser) -> None:
    connection = await ada.connection()
    await ada.services.store.connections.update(
        connection, msgspec.structs.replace(connection, provider_account="f" * 64)
    )
    await anyio.sleep(1200)
    before = await ada.measured_values()
    assert (await ada.poll()).result.outcome is Outcome.MISBEHAVED
    assert await ada.measured_values() == before


@pytest.mark.slow
async def test_a_cadence_of_one_minute_is_learned_and_polled_by() -> None:
    simulated = SimulatorOptions(cadence_minutes=1)
    async with open_service(simulated=simulated, defaults=PollDefaults(2 * MINUTE, backfill_days=1)) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        assert (await ada.connection()).cadence_seconds == 60
        report = await ada.poll_when_due(await ada.poll())
        assert report.result.recorded == 2


@pytest.mark.slow
async def test_case_23_a_catch_up_that_is_cut_off_leaves_nothing_unread() -> None:
    """After a silence longer than a window, the watermark rises only together with the backfill before it."""
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
        ada.state = PollState()  # as in another process
        await ada.poll_when_due(report)
        await ada.read_backfill()
        stored = await ada.measured_values()
        assert stored == service.true_values("SandboxUser1", START - DAY, service.clock.now())[-len(stored) :]
        assert len(stored) > 40 * 280


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shown_after", "found_within"),
    [(5 * HOUR, DAY + HOUR), (2 * DAY, DAY + HOUR), (12 * DAY, 7 * DAY + HOUR)],
)
async def test_case_17_readings_days_or_weeks_late_are_found(shown_after: timedelta, found_within: timedelta) -> None:
    async with open_service(defaults=EVERY_TWO_HOURS) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        begins = service.clock.now() + DAY
        service.simulator.add_fault(Late(start=begins, end=begins + 4 * HOUR, shown_at=begins + 4 * HOUR + shown_after))
        await poll_for(ada, 28 * HOUR + shown_after - HOUR)
        watermark = (await ada.connection()).watermark
        await poll_for(ada, HOUR + found_within)
        assert await is_complete(ada, MINUTE)
        after = (await ada.connection()).watermark
        assert watermark is not None
        assert after is not None
        assert watermark <= after <= service.clock.now()


@pytest.mark.slow
async def test_sweeps_have_the_priority_of_repairs_and_never_exceed_their_depth() -> None:
    async with open_service(defaults=EVERY_TWO_HOURS) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        swept_at = set()
        for _ in range(8 * 12):
            await poll_for(ada, 2 * HOUR)
            swept_at.add((await ada.connection()).swept_at)
        assert len(swept_at - {None}) == 8
        again = [call.window for call in service.provider.asked if call.priority is Priority.REPAIR]
        assert max(window.length for window in again) > 4 * DAY
        available = (await ada.connection()).available
        assert available is not None
        assert min(window.start for window in again) >= available.end - DAY


@pytest.mark.slow
async def test_a_sweep_without_news_is_not_repeated_before_the_next_day(ada: ConnectedUser) -> None:
    await poll_for(ada, DAY)
    swept_at = (await ada.connection()).swept_at
    assert swept_at is not None
    calls = ada.service.simulator.calls["egvs", 200]
    await poll_for(ada, DAY)
    polls = DAY // (15 * MINUTE)
    assert ada.service.simulator.calls["egvs", 200] - calls <= polls + 1


@pytest.mark.slow
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


@pytest.mark.slow
async def test_without_a_depth_nothing_is_swept() -> None:
    none = timedelta(0)
    async with open_service(defaults=PollDefaults(backfill_days=1, sweep_depth=SweepDepth(none, none))) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        await poll_for(ada, 3 * DAY)
        assert (await ada.connection()).swept_at is None
        again = [call.window for call in service.provider.asked if call.priority is Priority.REPAIR]
        assert all(window.end < service.clock.now() - HOUR for window in again), "only gaps are fetched again"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (GrantBusy(), Outcome.GRANT_BUSY),
        (GrantRefused(), Outcome.REFUSED),
        (GrantLost(), Outcome.REFUSED),
        (ProviderThrottled(), Outcome.THROTTLED),
        (ProviderUnavailable(), Outcome.UNAVAILABLE),
        (ProviderMisbehaved(), Outcome.MISBEHAVED),
        (ProviderForbidden(), Outcome.FORBIDDEN),
        (StoreUnavailable(), Outcome.STORE_UNAVAILABLE),
        (ItemTooLarge(), Outcome.MISBEHAVED),
        (SealBroken(), Outcome.UNSEALABLE),
        (Fenced(), Outcome.FENCED),
        (StoreError(), Outcome.STORE_UNAVAILABLE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_expected_error_has_an_outcome(error: IngestError, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome


@pytest.mark.parametrize(
    ("error", "jitter", "wait"),
    [
        (GrantRefused(HOUR), 0.5, HOUR),
        (ProviderThrottled(2 * MINUTE), 0.0, 2 * MINUTE),
        (ProviderThrottled(2 * MINUTE), 1.0, 2.5 * MINUTE),
        (ProviderThrottled(), 0.0, MINUTE),
        (ProviderForbidden(), 0.5, 6 * HOUR),
        (ProviderUnavailable(), 0.5, 4 * SECOND),
        (GrantRefused(), 0.5, 4 * SECOND),
    ],
)
def test_a_retry_follows_the_error_or_the_number_of_failures(
    error: IngestError, jitter: float, wait: timedelta
) -> None:
    assert retry_at(error, NOON, jitter=jitter, failures=2, slot=SLOT) == NOON + wait


def test_after_fast_retries_the_slot_is_next() -> None:
    assert retry_at(ProviderUnavailable(), NOON, jitter=0.5, failures=5, slot=SLOT) == SLOT
