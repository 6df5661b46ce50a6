"""Whole service in one event loop: simulated Dexcom, store in memory, actors, and the API in process.

Time is the loop's own, so that months pass in seconds under the virtual clock; nothing here sleeps for real.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, cast

import anyio
import httpx
import msgspec
from litestar import Litestar

from bg_ingest.adapters.memory import Event, MemoryHints, MemoryPublisher
from bg_ingest.adapters.rabbitmq.publisher import RabbitPublisher
from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.api.auth import Access, Limits
from bg_ingest.domain.access import WebhookProof
from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.domain.connections import Connection, PollDefaults
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.ownership import SHARED_TIMINGS
from bg_ingest.domain.readings import StoredReading
from bg_ingest.observability.http import RequestMetrics
from bg_ingest.observability.observed_table import ObservedTable
from bg_ingest.observability.observer import Metrics
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.observability.replica import ReplicaCollector
from bg_ingest.ports import Observer, Provider, Sealer
from bg_ingest.ports.table import Table
from bg_ingest.services import Services
from bg_ingest.simulator import Simulator, SimulatorOptions
from bg_ingest.store import Store
from bg_ingest.wiring import SOURCE, build_services
from bg_ingest.wiring.broker import BrokerParts
from tests.fakes.cached_simulator import cache_days
from tests.fakes.recording_provider import RecordingProvider
from tests.harness.hygiene import WatchedCalls, assert_clean, check_answer, strip_counts
from tests.harness.shared_apps import borrow_api
from tests.harness.simulated_dexcom import open_dexcom
from tests.harness.stored_readings import read_all
from tests.harness.webhook_sender import SECRET, raw, signed
from workers.build import Workers

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
PROVIDER = "dexcom"
SEALER = AesGcmSealer([bytes(32)])


class LoopClock:
    """Instants that advance with the event loop."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._origin = anyio.current_time()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=anyio.current_time() - self._origin)

    def skip(self, by: timedelta) -> None:
        """Advance the clock without waking any sleeper."""
        self._start += by


Build = Callable[[Workers, MetricsRegistry, Table, Sealer], Services]


class ServiceHarness:
    """One process of the service, and the parts that further processes share with it."""

    def __init__(
        self,
        *,
        simulator: Simulator,
        table: Table,
        clock: LoopClock,
        provider: RecordingProvider,
        log_in: Callable[[httpx.URL], Awaitable[httpx.URL]],
        build: Build,
    ) -> None:
        self.simulator = simulator
        self.table = table
        self.clock = clock
        self.provider = provider
        self.workers = Workers()
        self.metrics = MetricsRegistry()
        self.metrics.add(ReplicaCollector(self.workers, clock))
        self.services = build(self.workers, self.metrics, table, SEALER)
        self.events: list[Event] = []
        """Filled while the actors run."""
        self.callbacks: list[httpx.URL] = []
        self._log_in = log_in
        self._build = build
        self._numbers = count(2)
        self._apps = ExitStack()
        self.app: Litestar
        self.api: httpx.AsyncClient

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[None]:
        """Open the API, whose options are given, and its client."""
        with self._apps:
            self.app = self._apps.enter_context(
                borrow_api(
                    self.services,
                    self.metrics,
                    process_health=self.workers,
                    own_names=["ingest.test"],
                    **options,
                )
            )
            self.api = httpx.AsyncClient(
                transport=httpx.ASGITransport(app=cast("Any", RequestMetrics(self.app, self.metrics))),
                base_url="https://ingest.test",
                event_hooks={"response": [check_answer]},
            )
            async with self.api:
                yield

    def replace_services(self, **changes: Any) -> None:
        """Replace some services. Actors use the new ones from their next start."""
        self.services = self.app.state.services = replace(self.services, **changes)

    async def connect(self, user: str, person: str = "SandboxUser1") -> httpx.Response:
        """Complete the OAuth flow as a person does; return the callback's answer."""
        return await self.api.get(await self.authorize(user, person))

    async def authorize(self, user: str, person: str) -> httpx.URL:
        """Run the flow up to the redirect back to the service, and return its URL."""
        begun = await self.api.post(f"/api/users/{user}/connections/{PROVIDER}")
        assert begun.status_code == 201, begun.text
        login = httpx.URL(begun.json()["authorize_url"]).copy_merge_params({"user": person})
        self.callbacks.append(await self._log_in(login))
        return self.callbacks[-1]

    async def push(
        self,
        user: str,
        body: bytes,
        webhook_id: str = "msg_1",
        *,
        to: httpx.AsyncClient | None = None,
        **headers: str | bytes,
    ) -> httpx.Response:
        """Send a webhook signed now. ``headers`` (with _ for -) replace its own headers."""
        own = signed(body, webhook_id, self.clock.now())
        others = {name.replace("_", "-"): value for name, value in headers.items()}
        return await (to or self.api).post(f"/api/bg/{user}/webhook", content=body, headers=raw(own | others))

    def new_process(self, table: Table | None = None, sealer: Sealer = SEALER) -> tuple[Services, Workers]:
        """Return services and actors of another process, with the same parts or its own connection to the table."""
        workers = Workers()
        return self._build(workers, MetricsRegistry(), table or self.table, sealer), workers

    async def connection(self, user: str) -> Connection:
        found = await self.services.store.connections.get(ConnectionId(UserId(user), PROVIDER))
        assert found is not None
        return found

    async def stored_readings(self, user: str) -> list[StoredReading]:
        return await read_all(self.services.store.readings, UserId(user))

    def true_values(self, person: str, start: datetime, end: datetime) -> list[tuple[datetime, int]]:
        found = self.simulator.truth(person, start, end, self.clock.now())
        return [(each.measured_at, each.glucose_mg_dl) for each in found]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the actors and record the published events."""
        async with self._listening(), self.workers.running(self.services):
            yield

    def replica(self) -> "Replica":
        """Return another process over the same table and providers; both use the timings for several processes."""
        self.replace_services(timings=SHARED_TIMINGS)
        services, workers = self.new_process()
        services = replace(services, timings=SHARED_TIMINGS, name=f"replica-{next(self._numbers)}")
        api = self._apps.enter_context(
            borrow_api(
                services,
                MetricsRegistry(),
                access=Access.OPEN,
                process_health=workers,
                signing_secrets=(SECRET,),
            )
        )
        transport = httpx.ASGITransport(app=cast("Any", api))
        return Replica(services, workers, httpx.AsyncClient(transport=transport, base_url="https://ingest.test"))

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        publisher = self.services.publisher
        if not isinstance(publisher, MemoryPublisher):  # with a real broker the test has a listener on it
            yield
            return
        async with publisher.subscribe() as events, anyio.create_task_group() as group:

            async def listen() -> None:
                async for event in events:
                    self.events.append(event)

            group.start_soon(listen)
            yield
            group.cancel_scope.cancel()

    def event_data_of(self, user: str) -> list[dict[str, Any]]:
        """Return the data of every event of a user, in order of publication."""
        data = [msgspec.json.decode(each.body)["data"] for each in self.events]
        return [each for each in data if each["user_id"] == user]

    def event_numbers(self, user: str) -> list[int]:
        return [each["change"] for each in self.event_data_of(user)]

    def published_readings(self, user: str) -> list[dict[str, Any]]:
        """Return the series as built by a consumer of the events, in the API's basic view."""
        series = {
            reading["timestamp"]: reading["glucose_mg_dl"]
            for each in self.event_data_of(user)
            for reading in each.get("readings", ())
        }
        return [{"timestamp": at, "glucose_mg_dl": value} for at, value in sorted(series.items())]


class Replica:
    """Another process of the service."""

    def __init__(self, services: Services, workers: Workers, api: httpx.AsyncClient) -> None:
        self.services = services
        self.workers = workers
        self.api = api

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.api, self.workers.running(self.services):
            yield


@asynccontextmanager
async def open_service(
    *,
    simulated: SimulatorOptions | None = None,
    defaults: PollDefaults | None = None,
    access: Access = Access.OPEN,
    signing_secrets: Sequence[str] = (SECRET,),
    webhook_limits: Limits | None = None,
    proofs: Mapping[str, frozenset[WebhookProof]] | None = None,
    table: Table | None = None,
    around: Callable[[Table], Any] = lambda table: table,
    broker: RabbitPublisher | None = None,
    observers: Sequence[Observer] = (),
    start: datetime = START,
    over_http: bool = False,
    provider_ahead: timedelta = timedelta(0),
) -> AsyncIterator[ServiceHarness]:
    """Open a service in memory or on the given real parts; ``around`` wraps its table.

    The clock of the simulator is ahead by ``provider_ahead``.

    Its provider calls the simulator directly, or is Dexcom's client and calls the simulator ``over_http``.
    """
    simulated = simulated or SimulatorOptions()
    clock = LoopClock(start)
    simulator = Simulator(simulated, now=lambda: clock.now() + provider_ahead)
    cache_days(simulator)
    publisher = broker or MemoryPublisher(SOURCE, capacity=100_000)
    replicas: list[MemoryHints] = []
    async with open_table(None, clock) as memory, open_dexcom(simulator, clock, over_http=over_http) as dexcom:
        provider = RecordingProvider(cast("Provider", WatchedCalls(dexcom.provider)))

        def build(workers: Workers, registry: MetricsRegistry, table: Table, sealer: Sealer) -> Services:
            metrics = Metrics(registry, clock)
            return build_services(
                Store(ObservedTable(cast("Table", WatchedCalls(table)), metrics), clock),
                BrokerParts(publisher, MemoryHints(replicas), broker),
                {PROVIDER: cast("Provider", provider)},
                metrics=metrics,
                sealer=sealer,
                clock=clock,
                wakeups=workers,
                defaults=defaults or PollDefaults(),
                limit=ProviderLimit(simulated.calls_per_hour),
                table="test",
                proofs=proofs,
                observers=observers,
            )

        service = ServiceHarness(
            simulator=simulator,
            table=around(table or memory),
            clock=clock,
            provider=provider,
            log_in=dexcom.log_in,
            build=build,
        )
        async with service.open(access=access, signing_secrets=signing_secrets, webhook_limits=webhook_limits):
            yield service
        assert_clean(strip_counts(service.metrics.text().decode()), "the metrics")
