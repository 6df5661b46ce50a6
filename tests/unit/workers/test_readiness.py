"""Readiness of the whole service, from its start to its end."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain.changes import Change
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ownership import SHARED_TIMINGS
from bg_ingest.domain.replica_status import BrokerState
from bg_ingest.errors import BrokerUnavailable, EventRefused
from bg_ingest.ports import Clock, Observer
from bg_ingest.ports.table import Item, SingleWrite
from bg_ingest.services.publishing.relay import Relay
from bg_ingest.simulator.faults import Failed, Fault, Html
from tests.conftest import on
from tests.fakes.faults import CallWrapper
from tests.harness.scrape import scrape
from tests.harness.service import PROVIDER, ServiceHarness, open_service
from workers.shards import LOAD_TIMEOUT

anyio_backend = on("asyncio")


class TroubledTable(CallWrapper):
    """A table whose calls may be slow or meet a bug: all of them, or those for some partitions."""

    delay = 0.0
    has_bug = False
    broken_partitions: str | None = None
    """Prefix of their keys."""
    held_partitions: str | None = None
    """Prefix of the keys of partitions that cannot be read until ``released``."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.released = anyio.Event()

    async def query(self, pk: str, *arguments: Any, **options: Any) -> AsyncGenerator[list[Item]]:
        self._check(pk)
        if self.held_partitions is not None and pk.startswith(self.held_partitions):
            await self.released.wait()
        async with aclosing(self.__getattr__("query")(pk, *arguments, **options)) as pages:
            async for page in pages:
                yield page

    async def write(self, one: SingleWrite) -> None:
        self._check(one.key[0])
        await self.__getattr__("write")(one)

    def _check(self, pk: str) -> None:
        if self.broken_partitions is not None and pk.startswith(self.broken_partitions):
            raise ValueError("bug")

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if self.has_bug:
            raise ValueError("bug")
        await anyio.sleep(self.delay)
        return await call()


class TroubledClock:
    """A clock that may meet a bug."""

    has_bug = False

    def __init__(self, inner: Clock) -> None:
        self._inner = inner

    def now(self) -> datetime:
        if self.has_bug:
            raise ValueError("bug")
        return self._inner.now()


@asynccontextmanager
async def open_service_and_table() -> AsyncIterator[tuple[ServiceHarness, TroubledTable]]:
    tables: list[TroubledTable] = []

    def around(table: Any) -> TroubledTable:
        tables.append(TroubledTable(table))
        return tables[0]

    async with open_service(defaults=PollDefaults(backfill_days=1), around=around) as service:
        yield service, tables[0]


async def health(service: ServiceHarness) -> tuple[int, list[str]]:
    answer = await service.api.get("/health/ready")
    expected = answer.json()
    return answer.status_code, expected.get("reasons") or expected.get("degraded") or []


async def start(group: TaskGroup, service: ServiceHarness) -> anyio.Event:
    """Run the actors in the group until the event is set."""
    over = anyio.Event()

    async def run() -> None:
        async with service.running():
            await over.wait()

    group.start_soon(run)
    return over


async def test_it_is_ready_between_the_start_and_the_drain_alone() -> None:
    async with open_service_and_table() as (service, table), anyio.create_task_group() as group:
        assert await health(service) == (503, ["starting"])
        table.delay = 1.0
        over = await start(group, service)
        await anyio.sleep(0.5)
        assert await health(service) == (503, ["starting"])
        await anyio.sleep(60)
        assert await health(service) == (200, [])
        over.set()
        await anyio.sleep(0.5)
        assert await health(service) == (503, ["draining"])


@pytest.mark.slow
async def test_after_a_crash_that_cannot_heal_it_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = anyio.Event()
    monkeypatch.setattr(os, "kill", lambda *_: stopped.set())  # else this process would be stopped
    async with open_service_and_table() as (service, table), anyio.create_task_group() as group:
        over = await start(group, service)
        await anyio.sleep(5)
        table.has_bug = True
        await stopped.wait()
        assert await health(service) == (503, ["crashed"])
        table.has_bug = False
        over.set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Failed(endpoint="egvs"), "provider:dexcom:unavailable"),
        (Html(endpoint="egvs"), "provider:dexcom:misbehaved"),
    ],
)
async def test_a_provider_that_does_not_answer_is_degraded_until_it_does(fault: Fault, reason: str) -> None:
    async with open_service_and_table() as (service, _), service.running():
        await service.connect("ada")
        await anyio.sleep(60)
        service.simulator.add_fault(fault)
        assert (await service.api.post(f"/api/users/ada/connections/{PROVIDER}/poll")).status_code == 202
        await anyio.sleep(5)
        assert await health(service) == (200, []), "one failed poll is not enough"
        await anyio.sleep(180)
        assert await health(service) == (200, [reason])
        service.simulator.clear_faults()
        await anyio.sleep(1800)
        assert await health(service) == (200, [])


@pytest.mark.slow
async def test_one_persons_trouble_does_not_degrade_a_provider_that_answers_others() -> None:
    async with open_service_and_table() as (service, _), service.running():
        for number in range(1, 6):
            await service.connect(f"u{number}", f"SandboxUser{number}")
            await service.api.patch(
                f"/api/users/u{number}/connections/{PROVIDER}/worker", json={"poll_interval_seconds": 300}
            )
        await anyio.sleep(60)
        service.simulator.add_fault(Failed(endpoint="egvs", user="SandboxUser1"))
        seen = set()
        for _ in range(60):
            await anyio.sleep(60)
            seen.add((await health(service))[0])
        assert seen == {200}
        assert await health(service) == (200, [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "partitions", "status"), [("inbox", "owner#", 503), ("scheduler", None, 503), ("auditor", "audit#", 200)]
)
async def test_while_an_actor_waits_for_its_restart_the_process_is_ready_unless_polls_depend_on_it(
    name: str, partitions: str | None, status: int
) -> None:
    async with open_service_and_table() as (service, table):
        clock = TroubledClock(service.clock)
        service.replace_services(clock=clock)
        async with service.running():
            await service.connect("ada")
            await anyio.sleep(10)  # by then the shards have read their directories twice
            table.broken_partitions = partitions
            clock.has_bug = partitions is None
            await service.api.get("/api/users/ada/connections")  # leaves an audit record
            answers = []
            for _ in range(300):
                await anyio.sleep(0.1)
                answers.append(await health(service))
            assert (status, [name]) in answers
            assert answers.count((200, [])) + answers.count((status, [name])) == len(answers)
            table.broken_partitions = None
            clock.has_bug = False
            await anyio.sleep(60)
            assert await health(service) == (200, [])


@pytest.mark.slow
async def test_shards_that_are_ours_and_not_served_in_time_make_it_not_ready(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_service_and_table() as (service, table):
        service.replace_services(timings=SHARED_TIMINGS)
        async with service.running():
            await anyio.sleep(60.7)  # between two rounds of ownership
            actors = service.workers.actors
            assert actors is not None
            table.held_partitions, released = "shard#", table.released
            actors.view.heartbeat_sent_at = float("-inf")  # the next round drops all shards and adopts them again
            await anyio.sleep(LOAD_TIMEOUT - 1)
            assert "shards_lost" in capsys.readouterr().out
            assert await health(service) == (200, []), "no process becomes unready by a hand-over"
            await anyio.sleep(5)
            assert await health(service) == (503, ["shards"])
            released.set()
            await anyio.sleep(1)
            assert await health(service) == (200, [])


class SteadyBroker:
    """A broker in one state; its actor runs, or waits for its restart."""

    def __init__(self, state: BrokerState) -> None:
        self.state = state

    async def __call__(self, *, task_status: TaskStatus[None]) -> None:
        task_status.started()
        if self.state is not BrokerState.CONNECTED:
            raise BrokerUnavailable
        await anyio.sleep_forever()


@pytest.mark.parametrize("state", BrokerState)
async def test_f3_the_state_of_the_broker_is_named_in_readiness_and_metrics(state: BrokerState) -> None:
    async with open_service() as service:
        service.replace_services(broker=SteadyBroker(state))
        async with service.running():
            await anyio.sleep(1)
            named = {BrokerState.CONNECTED: [], BrokerState.UNREACHABLE: ["broker"]}
            assert await health(service) == (200, named.get(state, ["broker", f"broker:{state}"]))
            metrics = await scrape(service)
            assert {other for other in BrokerState if metrics("broker_state", state=other)} == {state}


class RefusingPublisher:
    """A broker that is connected and whose queue is full."""

    is_full = True

    async def publish(self, change: Change) -> bool:
        if self.is_full:
            raise EventRefused
        return True


@pytest.mark.slow
async def test_f3_publishing_is_degraded_as_long_as_events_are_refused() -> None:
    """The status follows the work: the broker is connected, and events wait nevertheless."""
    publisher = RefusingPublisher()
    async with open_service() as service:
        service.replace_services(relay=Relay(service.services.store.outbox, publisher, Observer()))
        async with service.running():
            await service.connect("ada")
            await anyio.sleep(10)
            assert await health(service) == (200, ["publishing"])
            publisher.is_full = False
            await anyio.sleep(61)
            assert await health(service) == (200, [])
