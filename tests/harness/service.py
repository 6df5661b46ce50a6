"""The whole service in one event loop: the simulated Dexcom, the store in memory, actors, and HTTP in process.

Time is the loop's own, so under the virtual clock months pass in seconds; nothing here sleeps for real.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, cast

import anyio
import httpx
import msgspec

from bg_ingest.adapters.memory.publisher import Event, MemoryPublisher
from bg_ingest.adapters.rabbitmq.publisher import RabbitPublisher
from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.api.app import create_api
from bg_ingest.api.auth import Access, Limits
from bg_ingest.domain.access import WebhookProof
from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.domain.connections import Connection, PollDefaults
from bg_ingest.domain.grants import Secret
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.ownership import SHARED_TIMINGS
from bg_ingest.domain.readings import StoredReading
from bg_ingest.observability.http import RequestMetrics
from bg_ingest.observability.replica import ReplicaCollector
from bg_ingest.observability.table import ObservedTable
from bg_ingest.ports import Provider, Sealer, Tracing
from bg_ingest.ports.table import Table
from bg_ingest.providers.dexcom import Dexcom, DexcomSettings
from bg_ingest.providers.http import http_client
from bg_ingest.simulator import Simulator, SimulatorOptions, create_simulator
from bg_ingest.store import Store
from bg_ingest.wiring import SOURCE, Services
from bg_ingest.wiring.tracing import UNTRACED
from tests.fakes.cached_simulator import cache_days
from tests.fakes.recording_provider import RecordingProvider
from tests.harness.hygiene import WatchedCalls, assert_clean, check_answer, strip_counts
from tests.harness.stored_readings import read_all
from tests.harness.webhook_sender import SECRET, raw, signed
from workers.build import Workers

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
PROVIDER = "dexcom"


class LoopClock:
    """Instants that move with the event loop."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._origin = anyio.current_time()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=anyio.current_time() - self._origin)

    def skip(self, by: timedelta) -> None:
        """Let time pass for who asks what time it is; sleepers sleep on."""
        self._start += by


class ServiceHarness:
    """What tests see of it. ``told`` fills while the actors run."""

    def __init__(
        self, *, simulator: Simulator, services: Services, table: Table, clock: LoopClock, provider: RecordingProvider
    ) -> None:
        self.simulator = simulator
        self.services = services
        self.table = table
        self.clock = clock
        self.provider = provider
        self.workers = Workers()
        self.events: list[Event] = []
        self.callbacks: list[httpx.URL] = []
        self.join: Callable[[Services, Workers, Table, Sealer], None]
        self._numbers = count(2)
        self.simulated_http: httpx.AsyncClient
        self.api: httpx.AsyncClient

    async def connect(self, user: str, person: str = "SandboxUser1") -> httpx.Response:
        """Walk the OAuth flow as a person does; return the callback's answer."""
        return await self.api.get(await self.authorize(user, person))

    async def authorize(self, user: str, person: str) -> httpx.URL:
        """Walk the flow up to where the provider sends the person back to."""
        begun = await self.api.post(f"/api/users/{user}/connections/{PROVIDER}")
        assert begun.status_code == 201, begun.text
        login = httpx.URL(begun.json()["authorize_url"]).copy_merge_params({"user": person})
        back = await self.simulated_http.get(login)
        self.callbacks.append(httpx.URL(back.headers["location"]))
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
        """Send a webhook that is signed now; ``headers`` (with _ for -) replace its own."""
        own = signed(body, webhook_id, self.clock.now())
        others = {name.replace("_", "-"): value for name, value in headers.items()}
        return await (to or self.api).post(f"/api/bg/{user}/webhook", content=body, headers=raw(own | others))

    def new_process(self, table: Table | None = None, sealer: Sealer | None = None) -> tuple[Services, Workers]:
        """Return another process's services and actors, over the same parts or its own way to the table."""
        services, workers = Services(), Workers()
        self.join(services, workers, table or self.table, sealer or AesGcmSealer([bytes(32)]))
        return services, workers

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
        """Run the actors, and collect what they tell."""
        async with self._listening(), self.workers.running(self.services):
            yield

    def replica(self) -> "Replica":
        """Make another process's services, over the same table and providers; both then share with others."""
        services, workers = Services(), Workers()
        self.services.timings = services.timings = SHARED_TIMINGS
        services.name = f"replica-{next(self._numbers)}"
        self.join(services, workers, self.table, AesGcmSealer([bytes(32)]))
        api = create_api(services, access=Access.OPEN, process_health=workers, signing_secrets=(SECRET,))
        transport = httpx.ASGITransport(app=cast("Any", api))
        return Replica(services, workers, httpx.AsyncClient(transport=transport, base_url="https://ingest.test"))

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        publisher = self.services.publisher
        if not isinstance(publisher, MemoryPublisher):  # a real broker: the test listens there
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
        """The data of every event about a user, in the order it came."""
        data = [msgspec.json.decode(each.body)["data"] for each in self.events]
        return [each for each in data if each["user_id"] == user]

    def event_numbers(self, user: str) -> list[int]:
        return [each["change"] for each in self.event_data_of(user)]

    def published_readings(self, user: str) -> list[dict[str, Any]]:
        """The series as a consumer of the events has it, in the API's basic view."""
        series = {
            reading["timestamp"]: reading["glucose_mg_dl"]
            for each in self.event_data_of(user)
            for reading in each.get("readings", ())
        }
        return [{"timestamp": at, "glucose_mg_dl": value} for at, value in sorted(series.items())]


class Replica:
    """A further process of the house."""

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
    traces: Tracing = UNTRACED,
    start: datetime = START,
) -> AsyncIterator[ServiceHarness]:
    """Open a house, on memory or on the real parts given; ``around`` may put a fake in front of its table."""
    simulated = simulated or SimulatorOptions()
    clock = LoopClock(start)
    app = create_simulator(simulated, now=clock.now)
    cache_days(app.state.simulator)
    transport = httpx.ASGITransport(app=cast("Any", app))
    services = Services()
    async with open_table(None, clock) as memory, http_client(transport) as http:
        used = around(table or memory)
        options = DexcomSettings(
            client_id=simulated.client_id,
            client_secret=Secret(simulated.client_secret),
            redirect_uri="https://ingest.test/api/oauth/dexcom/callback",
            base_url="http://simulator.test",
            delay=timedelta(seconds=simulated.delay_seconds),
        )
        provider = RecordingProvider(cast("Provider", WatchedCalls(Dexcom(options, http, clock))))
        found = ServiceHarness(
            simulator=app.state.simulator, services=services, table=used, clock=clock, provider=provider
        )
        publisher = broker or MemoryPublisher(SOURCE, capacity=100_000)

        def join(services: Services, workers: Workers, table: Table, sealer: Sealer) -> None:
            services.join(
                Store(ObservedTable(cast("Table", WatchedCalls(table)), services.metrics), clock),
                publisher,
                {PROVIDER: cast("Provider", provider)},
                sealer=sealer,
                clock=clock,
                wakeups=workers,
                defaults=defaults or PollDefaults(),
                limit=ProviderLimit(simulated.calls_per_hour),
                table="test",
                proofs=proofs,
                traces=traces,
            )
            services.broker = broker

        found.join = join
        found.join(services, found.workers, used, AesGcmSealer([bytes(32)]))

        async def exposition() -> bytes:
            return services.metrics.text()  # on the loop: its clock is not another thread's

        services.metrics.add(ReplicaCollector(found.workers, clock))
        api = create_api(
            services,
            access=access,
            process_health=found.workers,
            own_names=["ingest.test"],
            signing_secrets=signing_secrets,
            webhook_limits=webhook_limits,
            exposition=exposition,
        )
        found.simulated_http = httpx.AsyncClient(transport=transport)
        found.api = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=cast("Any", RequestMetrics(api, services.metrics))),
            base_url="https://ingest.test",
            event_hooks={"response": [check_answer]},
        )
        async with found.simulated_http, found.api:
            yield found
        assert_clean(strip_counts((await exposition()).decode()), "the metrics")
