"""Costs of operations in calls to the store. Counted, not timed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import msgspec

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId, shard_of
from bg_ingest.domain.ownership import SHARED_TIMINGS
from bg_ingest.domain.polling import Outcome, PollReport, PollState
from bg_ingest.domain.windows import Window
from bg_ingest.ports import Priority
from bg_ingest.services.publishing.relay import CommittedChange
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.store import keys
from bg_ingest.store.items import build_item
from tests.fakes.counting_table import CountingTable
from tests.harness.sample_values import unpublished_changes
from tests.harness.service import PROVIDER, START, ServiceHarness, open_service
from tests.harness.stored_readings import ALL_TIME
from tests.harness.webhook_sender import envelope, records
from tests.long.benchmarks.capacity import MeteredTable, Units, item_size, read_units
from tests.long.benchmarks.operations import OperationBench

ADA = ConnectionId(UserId("ada"), PROVIDER)
SHARD = shard_of(ADA.user)
TWO_DAYS = PollDefaults(backfill_days=2)


class Cost(msgspec.Struct):
    """Reads, writes, transactions."""

    reads: int = 0
    writes: int = 0
    transactions: int = 0


@asynccontextmanager
async def measure_cost(service: ServiceHarness) -> AsyncIterator[Cost]:
    """Count the store's calls in the body."""
    table, spent = service.table, Cost()
    assert isinstance(table, CountingTable)
    before = table.asked
    yield spent
    after = table.asked
    spent.reads, spent.writes, spent.transactions = (b - a for a, b in zip(before, after, strict=True))


async def poll_until_idle(service: ServiceHarness) -> PollReport:
    """Poll until the past has been read, and publish all changes."""
    plan = PollState()
    while True:
        report = await service.services.poller.poll(ADA, 1, plan)
        plan = report.state
        if report.due is not None and report.due > service.clock.now():
            await service.services.relay.publish_shard(SHARD, {ADA.user: []})
            return report


async def sleep_until_due(service: ServiceHarness, report: PollReport) -> None:
    assert report.due is not None
    await anyio.sleep((report.due - service.clock.now()).total_seconds())


async def prefetch_calls(service: ServiceHarness) -> None:
    """Exclude the cost of a reservation, because it serves many calls, also outside the test."""
    for _ in range(10):
        await service.services.budget.acquire(ADA.provider, "us", Priority.REQUESTED)  # also open to higher ones


async def test_latest_costs_one_read() -> None:
    async with open_service(over_http=True, around=CountingTable, defaults=TWO_DAYS) as service:
        await service.connect("ada")
        await poll_until_idle(service)
        async with measure_cost(service) as spent:
            answer = await service.api.get("/api/bg/ada/latest?view=full")
        assert answer.status_code == 200
        assert spent == Cost(reads=1)


async def test_a_poll_with_news_costs_a_read_and_a_transaction_and_publishing_it_nothing() -> None:
    async with open_service(over_http=True, around=CountingTable, defaults=TWO_DAYS) as service:
        await service.connect("ada")
        report = await poll_until_idle(service)
        await sleep_until_due(service, report)
        await prefetch_calls(service)
        async with measure_cost(service) as spent:
            report = await service.services.poller.poll(ADA, 1, report.state)
        assert report.result.outcome is Outcome.READ
        assert report.result.recorded == 3
        assert spent == Cost(reads=1, transactions=1)

        (change,) = await unpublished_changes(service.services.store, ADA.user)
        committed = [CommittedChange(change, anyio.current_time())]
        async with measure_cost(service) as spent:
            result = await service.services.relay.publish_shard(SHARD, {ADA.user: committed})
        assert result.settled == 1
        assert spent == Cost()


async def test_a_week_of_polls_costs_5500_write_units_at_most_and_90_polled_days_31_read_units() -> None:
    """Half a day of polls, each with news one transaction of three items, with gap checks and refreshes."""
    async with open_service(over_http=True, around=MeteredTable, defaults=PollDefaults(backfill_days=0)) as service:
        bench = OperationBench(service)
        await service.connect("ada")
        await bench.poll()
        await bench.publish()
        before, end = bench.metered.used, service.clock.now() + timedelta(hours=12)
        while service.clock.now() < end:
            await bench.next_poll()
            await bench.publish(await bench.cached_changes())
        assert 14 * (bench.metered.used - before).writes <= 5_500
        before = bench.metered.used
        assert (await service.api.get("/api/bg/ada/latest?view=full")).status_code == 200
        assert bench.metered.used - before == Units(reads=1)
        segments = service.services.store.readings.iter_packed(ADA.user, Window(end - timedelta(days=1), end))
        items = [build_item(change=1_000, readings=packed) async for packed in segments]
        full = max(item_size(keys.segment(ADA.user, START), item) for item in items)
        assert read_units(90 * 4 * full, consistent=False) <= 31


async def test_a_process_without_users_reads_two_million_units_a_week_at_most() -> None:
    """Sum of what repeats every minute, and of the directories, which are read 5 s after the start and every 15 min."""
    async with open_service(over_http=True, around=MeteredTable) as service:
        service.replace_services(timings=SHARED_TIMINGS)
        async with service.running():
            metered, used = OperationBench(service).metered, [Units()]
            for seconds in (4, 60, 60):
                await anyio.sleep(seconds)
                used.append(metered.used)
        of_minute = (used[3] - used[2]).reads
        of_directories = (used[2] - used[1]).reads - of_minute
        assert of_directories >= SHARDS
        assert of_minute * 60 * 24 * 7 + of_directories * 4 * 24 * 7 <= 2_000_000


async def test_a_webhook_costs_a_read_and_a_transaction_and_its_repetition_a_read() -> None:
    async with open_service(around=CountingTable, defaults=PollDefaults(backfill_days=0)) as service:
        await service.connect("ada")
        connected = await service.connection("ada")
        body = envelope(connected.provider_account or "", records(START - timedelta(hours=1), 1))
        async with measure_cost(service) as spent:
            assert (await service.push("ada", body)).json()["stored"] == 1
        assert spent == Cost(reads=1, transactions=1)
        async with measure_cost(service) as spent:
            assert (await service.push("ada", body)).json()["stored"] == 0
        assert spent == Cost(reads=1)
        async with measure_cost(service) as spent:
            assert (await service.push("ada", body, "msg_2")).json()["duplicates"] == 1
        assert spent == Cost(reads=1, writes=1)


async def test_a_poll_that_brings_nothing_writes_nothing() -> None:
    async with open_service(
        over_http=True, simulated=SimulatorOptions(delay_seconds=7200), around=CountingTable, defaults=TWO_DAYS
    ) as service:
        await service.connect("ada")
        plan = (await poll_until_idle(service)).state
        first = await service.services.poller.poll(ADA, 1, plan, requested=True)  # stores an outcome of another kind
        assert first.result.outcome is Outcome.NOTHING_NEW
        await prefetch_calls(service)
        async with measure_cost(service) as spent:
            again = await service.services.poller.poll(ADA, 1, plan, requested=True)
        assert again.result.outcome is Outcome.NOTHING_NEW
        assert spent == Cost(reads=1)


async def test_ninety_days_are_kept_in_ten_bytes_a_reading() -> None:
    async with open_service(over_http=True) as service:
        await service.connect("ada")
        await poll_until_idle(service)
        window = [packed async for packed in service.services.store.readings.iter_packed(ADA.user, ALL_TIME)]
        readings = len(await service.stored_readings("ada"))
        assert readings > 25_000
        assert sum(map(len, window)) / readings <= 10
