"""Path of one reading, and a real person's export, with a DynamoDB-compatible store and RabbitMQ.

A plain AMQP consumer rebuilds the series from the events alone, and proves by the change numbers that it lost none.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import msgspec

from bg_ingest.adapters.rabbitmq.publisher import RabbitPublisher
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.simulator import REPLAY_USER, SimulatorOptions
from bg_ingest.wiring import SOURCE
from tests.harness.service import ServiceHarness, open_service
from tests.integration.listener import Listener, listening
from tests.integration.servers import DynamoServer
from tests.stories.test_replay import EXPORT
from tests.stories.test_replay import exported as exported  # noqa: PLC0414 - the fixture

MINUTE = timedelta(minutes=1)


class Consumer:
    """Series as built by a consumer of the events: known numbers are dropped, later changes replace earlier values."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.changes: dict[int, dict[str, Any]] = {}
        self.in_order: list[int] = []

    async def take_all(self) -> None:
        for event in await self._listener.take_all():
            data = msgspec.json.decode(event.body)["data"]
            if data["change"] not in self.changes:
                self.in_order.append(data["change"])
            self.changes[data["change"]] = data

    @property
    def complete(self) -> bool:
        return bool(self.in_order) and self.in_order == list(range(1, len(self.in_order) + 1))

    @property
    def series(self) -> list[dict[str, Any]]:
        values = {
            reading["timestamp"]: reading["glucose_mg_dl"]
            for _, data in sorted(self.changes.items())
            for reading in data.get("readings", ())
        }
        return [{"timestamp": at, "glucose_mg_dl": value} for at, value in sorted(values.items())]


@asynccontextmanager
async def open_real_service(
    dynamodb: DynamoServer, rabbitmq_url: str, **given: Any
) -> AsyncIterator[tuple[ServiceHarness, Consumer]]:
    broker = RabbitPublisher(rabbitmq_url, SOURCE)
    async with (
        dynamodb.new_table() as table,
        open_service(over_http=True, table=table, broker=broker, **given) as service,
        service.running(),
        listening(rabbitmq_url) as listener,
    ):
        yield service, Consumer(listener)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(60):
        while not await holds():  # noqa: ASYNC110 - the awaited state is in other processes
            await anyio.sleep(0.05)


async def test_the_story_of_one_reading_on_the_real_parts(dynamodb: DynamoServer, rabbitmq_url: str) -> None:
    async with open_real_service(dynamodb, rabbitmq_url, defaults=PollDefaults(backfill_days=2)) as (service, consumer):
        assert service.workers.degraded_parts() == []
        await service.connect("ada", "SandboxUser1")

        async def backfill_is_published() -> bool:
            await consumer.take_all()
            head = await service.services.store.readings.head("ada")  # type: ignore[arg-type]
            left = (await service.connection("ada")).backfill
            return head is not None and left is None and len(consumer.changes) == head.last_change

        await until(backfill_is_published)
        past = (await service.api.get("/api/bg/ada", params={"from": "2026-01-01"})).json()
        assert len(past) > 500
        assert consumer.series == past

        service.clock.skip(20 * MINUTE)
        await service.api.post("/api/users/ada/connections/dexcom/poll")

        async def news_are_published() -> bool:
            await consumer.take_all()
            return len(consumer.series) > len(past)

        await until(news_are_published)
        served = (await service.api.get("/api/bg/ada", params={"from": "2026-01-01"})).json()
        assert consumer.series == served
        assert (await service.api.get("/api/bg/ada/latest")).json() == served[-1]
        assert consumer.complete


async def test_a_real_export_is_stored_served_and_published_on_the_real_parts(
    dynamodb: DynamoServer, rabbitmq_url: str, exported: list[dict[str, object]]
) -> None:
    simulated = SimulatorOptions(replay=EXPORT, zone="UTC", users=0)
    start = datetime(2016, 11, 20, 8, tzinfo=UTC)
    async with open_real_service(dynamodb, rabbitmq_url, simulated=simulated, start=start) as (service, consumer):
        await service.connect("joe", REPLAY_USER)

        async def all_is_published() -> bool:
            await consumer.take_all()
            return len(consumer.series) == len(exported)

        await until(all_is_published)
        served = await service.api.get("/api/bg/joe", params={"from": "2016-01-01", "to": "2017-01-01"})
        assert served.json() == exported
        assert consumer.series == exported
        assert consumer.complete
