"""Two processes over one store that receive a true series; views of it through the API and through the events."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from random import Random
from typing import Any, TypeAlias, cast

import anyio
import httpx
import msgspec

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.commands.context import CommandWakeups
from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.domain.cloud_events import FullReading, encode_cloud_event, public_reading
from bg_ingest.domain.connections import Connection, ConnectionState, PollDefaults
from bg_ingest.domain.grants import Secret
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import Outcome, PollReport, PollState
from bg_ingest.domain.reading_filter import AsOf, ReadingFilter
from bg_ingest.domain.windows import Window
from bg_ingest.errors import StoreUnavailable
from bg_ingest.observability.observer import Metrics
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.ports.table import Table
from bg_ingest.providers.dexcom.client import Dexcom
from bg_ingest.providers.dexcom.oauth import Tokens
from bg_ingest.providers.http_client import http_client
from bg_ingest.services import Services
from bg_ingest.services.queries.readings import ReadingQueries
from bg_ingest.store import Store
from bg_ingest.wiring import build_services
from bg_ingest.wiring.broker import embedded_broker
from tests.fakes.clock import NOON, SetClock
from tests.fakes.faults import CallWrapper, Fault, StaleReads
from tests.harness.dexcom_answers import OPTIONS, USER
from tests.harness.sample_values import connection_commit, replaced_fields, unpublished_changes
from tests.harness.stored_readings import ALL_TIME
from tests.properties.truth import Truth

ADA = ConnectionId(UserId("ada"), "dexcom")
DAY = timedelta(days=1)
NIGHTS = 8
"""Number of sweeps that include a weekly one, which reads the whole series again."""

Series: TypeAlias = list[FullReading]


class FaultOnce(CallWrapper):
    """Fails once, a given number of calls after it was armed."""

    left = 0
    fault = Fault.BEFORE

    async def _around(self, name: str, call: Any) -> Any:
        self.left -= 1
        if self.left == 0 and self.fault is Fault.BEFORE:
            raise StoreUnavailable
        answer = await call()
        if self.left == 0:
            raise StoreUnavailable
        return answer


class World:
    """Steps of a run; ``end`` completes it with sweeps."""

    def __init__(self, truth: Truth, table: Table, http: httpx.AsyncClient, clock: SetClock, seed: int) -> None:
        self.truth = truth
        self.clock = clock
        self.plain = Store(table, clock)
        self.faulty = FaultOnce(table)
        self.remembered: list[tuple[AsOf, Series]] = []
        """Earlier answers, each with its point in time."""
        self._state = PollState()
        late = cast("Table", StaleReads(self.faulty, Random(seed)))
        self._processes = [self._process(Store(late, clock), http) for _ in range(2)]

    def _process(self, store: Store, http: httpx.AsyncClient) -> Services:
        return build_services(
            store,
            embedded_broker(),
            {"dexcom": Dexcom(OPTIONS, http, http, self.clock)},
            metrics=Metrics(MetricsRegistry(), self.clock),
            sealer=AesGcmSealer([bytes(32)]),
            clock=self.clock,
            wakeups=CommandWakeups(),
            defaults=PollDefaults(backfill_days=0),
            limit=ProviderLimit(10**9),
            table="world",
        )

    async def connect(self) -> None:
        after = Connection(
            id=ADA,
            state=ConnectionState.ACTIVE,
            generation="first",
            region="us",
            app="our-app",
            connected_at=NOON - DAY,
            provider_account=USER,
        )
        lasting = Tokens(Secret("access"), Secret("refresh"), NOON + timedelta(days=365)).to_credentials()
        grant = self._processes[0].grants.seal_new(ADA, after.generation, lasting)
        await self.plain.commits.write(connection_commit(None, None, after, grant=grant))

    async def show(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.truth.show(number)

    async def revise(self, numbers: Sequence[int], by: int) -> None:
        for number in numbers:
            self.truth.revise(number, by)

    async def trouble(self, call: int, fault: Fault) -> None:
        self.faulty.left, self.faulty.fault = call, fault

    async def poll(self, process: int = 0) -> PollReport:
        polling = self._processes[process].poller
        report = await polling.poll(ADA, 1, self._state, requested=True)
        self._state = report.state
        return report

    async def push(self, numbers: Sequence[int], webhook: int, stale: bool = False) -> None:  # noqa: FBT001, FBT002 - drawn
        body = self.truth.pushed(list(numbers), stale=stale)
        with suppress(StoreUnavailable):  # the sender may send it again, or not
            await self._processes[1].webhook_receiver.receive(ADA.user, f"msg_{webhook}", body)

    async def both(self, shown: Sequence[int], numbers: Sequence[int], webhook: int) -> None:
        """Show some readings; one process polls while the other takes a push, with every read of the store late."""
        await self.show(shown)
        async with anyio.create_task_group() as group:
            group.start_soon(self.poll)
            group.start_soon(self.push, [*shown, *numbers], webhook)

    async def backfill(self, hours: int) -> None:
        """Read the last hours again as a backfill does."""
        before = await self._connection()
        past = Window(NOON - timedelta(hours=hours + 1), NOON)
        await self.plain.connections.update(before, replaced_fields(before, backfill=past))
        await self._poll_until_idle()

    async def night(self) -> None:
        self.clock.advance(DAY)
        await self._poll_until_idle()

    async def _poll_until_idle(self) -> None:
        """Poll until nothing is due: the live poll, the sweep, and the rest of a backfill."""
        for _ in range(20):
            report = await self._processes[0].poller.poll(ADA, 1, self._state)
            self._state = report.state
            if report.result.outcome is Outcome.NOT_DUE:
                return

    async def remember(self) -> None:
        """Keep the present answer, and let enough time pass that the next commit has another second."""
        answer = await self.series()
        head = await self.plain.readings.head(ADA.user)
        assert head is not None
        self.remembered += [(AsOf.at(self.clock.now()), answer), (AsOf(change=head.last_change), answer)]
        self.clock.advance(timedelta(seconds=2))

    async def end(self) -> None:
        """Show all readings, and read them by the sweeps of a week."""
        self.faulty.left = 0
        for number in range(len(self.truth.readings)):
            self.truth.show(number)
        for _ in range(NIGHTS):
            await self.night()

    async def series(self, point: AsOf | None = None) -> Series:
        """Return the API's full view, with every device."""
        reader = ReadingQueries(self.plain.readings, self.clock)
        batches = reader.readings(ADA.user, ALL_TIME, ReadingFilter(point, all_devices=True))
        return [public_reading(each) async for batch in batches for each in batch]

    async def events(self) -> list[dict[str, Any]]:
        """Return the data of every unpublished event in its public form."""
        changes = await unpublished_changes(self.plain, ADA.user)
        return [msgspec.json.decode(encode_cloud_event(change, "/bg-ingest"))["data"] for change in changes]

    async def _connection(self) -> Connection:
        found = await self.plain.connections.get(ADA)
        assert found is not None
        return found


def rebuild(events: Sequence[dict[str, Any]]) -> Series:
    """Return the series as built by a consumer from the events alone."""
    known: dict[tuple[str, ...], dict[str, Any]] = {}
    for event in sorted(events, key=lambda each: int(each["change"])):
        for each in event.get("readings", ()):
            reading = {name: value for name, value in each.items() if name != "previous_glucose_mg_dl"}
            known[tuple(str(each[name]) for name in ("timestamp", "provider", "sensor", "device"))] = reading
    return [msgspec.convert(each, FullReading) for each in known.values()]


@asynccontextmanager
async def world(values: list[int], seed: int) -> AsyncIterator[World]:
    truth, clock, random = Truth(values), SetClock(), Random(seed)
    transport = httpx.MockTransport(lambda request: truth.answer(request, random))
    async with open_table(None, clock) as table, http_client(transport) as http:
        opened = World(truth, table, http, clock, seed)
        await opened.connect()
        yield opened
