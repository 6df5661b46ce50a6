"""Events of the embedded broker; its guarantees: ``tests/contracts/test_publisher.py``."""

from datetime import UTC, datetime

import pytest

from bg_ingest.adapters.memory import Event, MemoryPublisher
from bg_ingest.domain.changes import Change, ConnectionChanged
from bg_ingest.domain.cloud_events import CONTENT_TYPE, encode_cloud_event
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import EventRefused

CHANGE = Change(
    UserId("ada"), 1, datetime(2026, 3, 2, tzinfo=UTC), ConnectionChanged("acme", ConnectionState.ACTIVE, None)
)


async def test_a_subscriber_receives_the_bytes_and_properties_of_a_real_broker() -> None:
    publisher = MemoryPublisher("/test")
    async with publisher.subscribe() as events:
        assert await publisher.publish(CHANGE)
        body = encode_cloud_event(CHANGE, "/test")
        assert events.receive_nowait() == Event(CHANGE.type, CHANGE.id, CONTENT_TYPE, body)


async def test_without_subscribers_an_event_is_unroutable() -> None:
    publisher = MemoryPublisher("/test")
    assert not await publisher.publish(CHANGE)
    async with publisher.subscribe():
        assert await publisher.publish(CHANGE)
    assert not await publisher.publish(CHANGE)


async def test_an_event_is_refused_to_all_while_one_subscriber_is_full() -> None:
    publisher = MemoryPublisher("/test", capacity=2)
    async with publisher.subscribe() as slow, publisher.subscribe() as fast:
        for _ in range(2):
            assert await publisher.publish(CHANGE)
            fast.receive_nowait()
        with pytest.raises(EventRefused):
            await publisher.publish(CHANGE)
        assert fast.statistics().current_buffer_used == 0
        slow.receive_nowait()
        assert await publisher.publish(CHANGE)
