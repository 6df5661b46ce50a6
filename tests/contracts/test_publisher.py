"""Publishers deliver at least once, report the result of each event, and store nothing."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Protocol

import anyio
import msgspec
import pytest

from bg_ingest.adapters.memory import Event, MemoryPublisher
from bg_ingest.adapters.rabbitmq.publisher import RabbitPublisher
from bg_ingest.domain.changes import Change, ChangeData, ConnectionChanged, ReadingsRecorded
from bg_ingest.domain.cloud_events import encode_cloud_event
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Origin, StoredReading
from bg_ingest.errors import EventRefused
from bg_ingest.ports import Publisher
from tests.fakes.clock import NOON
from tests.harness.sample_values import reading
from tests.integration.listener import Listener, listening

SOURCE = "/test"
CAPACITY = 40
"""Events that a listener may leave unread."""


class Listening(Protocol):
    async def take(self) -> Event | None: ...


class Broker(Protocol):
    """A publisher, and a way to listen to it."""

    @property
    def publisher(self) -> Publisher: ...

    def listening(self) -> AbstractAsyncContextManager[Listening]: ...


class MemoryBroker:
    def __init__(self) -> None:
        self.publisher = MemoryPublisher(SOURCE, capacity=CAPACITY)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Listening]:
        async with self.publisher.subscribe() as events:

            class Subscriber:
                async def take(self) -> Event | None:
                    return events.receive_nowait() if events.statistics().current_buffer_used else None

            yield Subscriber()


class RabbitBroker:
    def __init__(self, url: str) -> None:
        self.publisher = RabbitPublisher(url, SOURCE)
        self._url = url

    def listening(self) -> AbstractAsyncContextManager[Listener]:
        return listening(self._url, most=CAPACITY)


@pytest.fixture(params=["local", pytest.param("rabbitmq", marks=pytest.mark.integration)])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    if request.param == "local":
        yield MemoryBroker()
        return
    rabbit = RabbitBroker(request.getfixturevalue("rabbitmq_url"))
    async with anyio.create_task_group() as group:
        await group.start(rabbit.publisher)
        yield rabbit
        group.cancel_scope.cancel()


def change(number: int, user: str = "ada", what: ChangeData | None = None) -> Change:
    recorded = StoredReading(reading(number), NOON, number)
    data = what or ReadingsRecorded("acme", Origin.LIVE, (recorded,))
    return Change(UserId(user), number, NOON + timedelta(seconds=number), data)


async def take_event(listener: Listening) -> list[Event]:
    events = []
    while event := await listener.take():
        events.append(event)
    return events


async def test_an_event_arrives_as_a_cloud_event_under_its_own_name(broker: Broker) -> None:
    changes = [change(1), change(2, what=ConnectionChanged("acme", ConnectionState.PAUSED, None))]
    async with broker.listening() as listener:
        assert [await broker.publisher.publish(each) for each in changes] == [True, True]
        assert await take_event(listener) == [
            Event(each.type, each.id, "application/cloudevents+json", encode_cloud_event(each, SOURCE))
            for each in changes
        ]


async def test_an_event_without_a_queue_is_lost_and_that_is_reported(broker: Broker) -> None:
    assert await broker.publisher.publish(change(1)) is False
    async with broker.listening() as listener:
        assert await listener.take() is None
        assert await broker.publisher.publish(change(2)) is True


async def test_who_stops_listening_no_longer_counts(broker: Broker) -> None:
    async with broker.listening():
        assert await broker.publisher.publish(change(1)) is True
    assert await broker.publisher.publish(change(2)) is False


async def test_events_of_many_users_are_published_at_once_each_in_order(broker: Broker) -> None:
    async def publish(user: str) -> None:
        for number in range(1, 6):
            assert await broker.publisher.publish(change(number, user))

    async with broker.listening() as listener:
        async with anyio.create_task_group() as group:
            for user in range(8):
                group.start_soon(publish, f"user-{user}")
        events = [msgspec.json.decode(each.body)["data"] for each in await take_event(listener)]
    for user in range(8):
        assert [each["change"] for each in events if each["user_id"] == f"user-{user}"] == [1, 2, 3, 4, 5]
    assert len(events) == 40


async def test_a_full_listener_refuses_until_it_has_room_again(broker: Broker) -> None:
    async with broker.listening() as listener:
        for number in range(1, CAPACITY + 1):
            assert await broker.publisher.publish(change(number))
        for _ in range(2):
            with pytest.raises(EventRefused):
                await broker.publisher.publish(change(CAPACITY + 1))
        assert await listener.take() is not None
        assert await broker.publisher.publish(change(CAPACITY + 1))
        assert [each.message_id for each in await take_event(listener)] == [f"ada/{n}" for n in range(2, CAPACITY + 2)]
