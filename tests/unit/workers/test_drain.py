"""Work that a drain completes and work that it cancels, over the whole service."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.ownership import SHARED_TIMINGS
from bg_ingest.domain.polling import Outcome
from bg_ingest.ports import Observer
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import Slow
from tests.conftest import on
from tests.fakes.faults import CallWrapper
from tests.fakes.observer import RecordingObserver
from tests.harness.scrape import scrape
from tests.harness.service import PROVIDER, START, ServiceHarness, open_service

anyio_backend = on("asyncio", "trio")

CROWDED_SIMULATOR = SimulatorOptions(users=12, calls_per_hour=3600)


class SlowTable(CallWrapper):
    """A table with transactions that, while ``slow``, take effect after four seconds."""

    slow = False

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.begun = anyio.Event()

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if name == "transact" and self.slow:
            self.begun.set()
            await anyio.sleep(4)
        return await call()


@pytest.mark.slow
async def test_a_commit_under_way_is_stored_and_hinted_once_and_a_fetch_is_cut_off() -> None:
    tables: list[SlowTable] = []

    def heavy(table: Any) -> SlowTable:
        tables.append(SlowTable(table))
        return tables[0]

    async with open_service(defaults=PollDefaults(backfill_days=1), around=heavy) as service:
        async with service.running():
            await service.connect("ada")
            await service.connect("ben", "SandboxUser2")
            await anyio.sleep(700)
            before = {user: await service.stored_readings(user) for user in ("ada", "ben")}
            service.simulator.add_fault(Slow(endpoint="egvs", user="SandboxUser2", seconds=25))
            tables[0].slow = True
            for user in ("ada", "ben"):
                assert (await service.api.post(f"/api/users/{user}/connections/{PROVIDER}/poll")).status_code == 202
            with anyio.fail_after(5):
                await tables[0].begun.wait()
            began = anyio.current_time()
        assert anyio.current_time() - began < 10
        assert await service.stored_readings("ben") == before["ben"]
        stored = await service.stored_readings("ada")
        assert len(stored) > len(before["ada"])
        assert stored[-1].reading.measured_at > START + timedelta(seconds=300)
        metrics = await scrape(service)
        assert metrics("readings_total", outcome="recorded") == len(stored) + len(before["ben"])
        head = await service.services.store.readings.head(UserId("ada"))
        assert head is not None
        assert sorted(set(service.event_numbers("ada"))) == list(range(1, head.last_change + 1))


DAILY = PollDefaults(backfill_days=0, poll_interval=timedelta(days=1))


@asynccontextmanager
async def open_crowded_service(*observers: Observer) -> AsyncIterator[tuple[ServiceHarness, list[str]]]:
    """A running process with more users than calls are available at once; their polls are due in a day."""
    async with open_service(defaults=DAILY, simulated=CROWDED_SIMULATOR, observers=observers) as service:
        service.replace_services(timings=SHARED_TIMINGS)
        async with service.running():
            users = [f"user-{number}" for number in range(CROWDED_SIMULATOR.users)]
            for number, user in enumerate(users):
                await service.connect(user, f"SandboxUser{number + 1}")
            await anyio.sleep(60)
            yield service, users


async def request_polls(service: ServiceHarness, users: list[str]) -> None:
    """Request a poll of every user, and return while most wait for their call."""
    for user in users:
        assert (await service.api.post(f"/api/users/{user}/connections/{PROVIDER}/poll")).status_code == 202
    await anyio.sleep(1.5)
    assert next(iter(service.services.budget.limiters.values())).waiting > 3


@pytest.mark.slow
async def test_polls_that_only_wait_for_a_call_are_released_at_once() -> None:
    async with open_crowded_service() as (service, users):
        await request_polls(service, users)
        began = anyio.current_time()
    assert anyio.current_time() - began < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("way", ["drained", "given up"])
async def test_requested_polls_that_did_not_run_are_run_by_the_next_owner(
    way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    observer = RecordingObserver()

    def count_polls() -> Counter[str]:
        done = {Outcome.READ, Outcome.NOTHING_NEW}
        return Counter(found.user for found, report in observer.poll_reports() if report.result.outcome in done)

    async with open_crowded_service(observer) as (service, users):
        replica, actors = service.replica(), service.workers.actors
        assert actors is not None
        observer.events.clear()
        await request_polls(service, users)
        assert len(count_polls()) < len(users) - 3
        if way == "drained":
            async with replica.running():
                await actors.runtime.drain()
                await anyio.sleep(30)
        else:  # as after a long outage of the store: it continues under its own name
            await anyio.sleep(0.1)  # between two rounds of ownership
            actors.view.heartbeat_sent_at = float("-inf")
            await anyio.sleep(30)
            assert "shards_lost" in capsys.readouterr().out
    had = count_polls()
    assert had.keys() == set(users)
    assert max(had.values()) <= 2, "at most a second time, by a process without a record of the first"
