"""Events of the embedded broker; its guarantees: ``tests/contracts/test_publisher.py``."""

from datetime import UTC, datetime

import anyio
import pytest

from bg_ingest.adapters.hint_buffer import MAX_HINTED_USERS, HintBuffer
from bg_ingest.adapters.memory import Event, MemoryHints, MemoryPublisher
from bg_ingest.domain.changes import Change, ConnectionChanged
from bg_ingest.domain.cloud_events import CONTENT_TYPE, encode_cloud_event
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import EventRefused
from bg_ingest.ports import Hint

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


async def test_hints_reach_the_other_replicas_and_the_highest_of_a_user_remains() -> None:
    replicas: list[MemoryHints] = []
    one = MemoryHints(replicas)
    assert not one.connected
    assert MemoryHints(is_only_replica=True).connected
    two = MemoryHints(replicas)
    for number in (2, 3, 1):
        one.send(Hint(UserId("ada"), number))
    one.send(Hint(UserId("ben"), 1))
    assert one.connected
    assert [await two.receive(), await two.receive()] == [Hint(UserId("ada"), 3), Hint(UserId("ben"), 1)]
    with anyio.move_on_after(1) as waiting:
        await one.receive()
    assert waiting.cancelled_caught


async def test_hints_of_too_many_users_are_dropped() -> None:
    buffer = HintBuffer()
    for number in range(MAX_HINTED_USERS + 1):
        buffer.put(Hint(UserId(f"user-{number}"), 1))
    buffer.put(Hint(UserId("user-0"), 2))
    received = [await buffer.get() for _ in range(MAX_HINTED_USERS)]
    assert received[0].last_change == 2
    assert received[-1].user == f"user-{MAX_HINTED_USERS - 1}"


async def test_all_waiting_hints_are_taken_at_once() -> None:
    buffer = HintBuffer()
    for user, number in (("ada", 1), ("ben", 1), ("ada", 2)):
        buffer.put(Hint(UserId(user), number))
    assert await buffer.get_all() == [Hint(UserId("ada"), 2), Hint(UserId("ben"), 1)]
    with anyio.move_on_after(1) as waiting:
        await buffer.get_all()
    assert waiting.cancelled_caught
