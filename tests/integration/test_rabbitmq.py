"""RabbitMQ that refuses, loses events, becomes silent, dies and restarts."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from signal import SIGKILL
from typing import Any

import anyio
import msgspec
import pytest
from anyio import to_thread
from structlog.testing import capture_logs

from bg_ingest.adapters.rabbitmq import publisher as module
from bg_ingest.adapters.rabbitmq.publisher import RabbitPublisher
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.changes import Change, ConnectionChanged
from bg_ingest.domain.cloud_events import EXCHANGE
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import shard_of
from bg_ingest.domain.replica_status import BrokerState
from bg_ingest.errors import BrokerUnavailable, EventRefused
from bg_ingest.ports import Observer
from bg_ingest.services.publishing.relay import Relay
from bg_ingest.settings import Settings
from bg_ingest.store import Store
from bg_ingest.wiring.broker import event_queues
from tests.contracts.test_publisher import change
from tests.fakes.clock import SetClock
from tests.harness.sample_values import USER, commit_connection, reading, readings_commit_of, unpublished_changes
from tests.integration.listener import channel_to, listening
from tests.integration.proxy import proxy_to
from tests.integration.rabbitmq_node import Node
from workers.supervisor import Backoff, Supervisor

PAUSED = ConnectionChanged("acme", ConnectionState.PAUSED, None)
QUEUE = "events"


@asynccontextmanager
async def connect(url: str, *, queue: str | None = None, stream: str | None = None) -> AsyncIterator[RabbitPublisher]:
    """Run a publisher as the service does."""
    options: dict[str, Any] = {"rabbitmq_queue": queue, "rabbitmq_stream": stream}
    publisher = RabbitPublisher(url, "/test", queues=event_queues(Settings(**options)))
    supervisor = Supervisor("broker", publisher, backoff=Backoff(first=0.05, ceiling=0.2), crash_limit=None)
    async with anyio.create_task_group() as group:
        await group.start(supervisor)
        yield publisher
        group.cancel_scope.cancel()


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not holds():  # noqa: ASYNC110 - the state has no event to wait for
            await anyio.sleep(0.01)


async def publish_outcome(publisher: RabbitPublisher, event: Change) -> object:
    """Return the result of an event: received or not, or the kind of error."""
    try:
        return await publisher.publish(event)
    except BrokerUnavailable:
        return BrokerUnavailable
    except EventRefused:
        return EventRefused


async def publish_outcomes(publisher: RabbitPublisher, numbers: range) -> list[object]:
    """Publish many events concurrently."""
    found: dict[int, object] = {}

    async def publish(number: int) -> None:
        what = PAUSED if number % 3 == 0 else None
        found[number] = await publish_outcome(publisher, change(number, f"user-{number}", what))

    async with anyio.create_task_group() as group:
        for number in numbers:
            group.start_soon(publish, number)
    return [found[number] for number in numbers]


async def test_of_many_events_in_flight_just_the_returned_ones_are_unroutable(rabbitmq_url: str) -> None:
    async with connect(rabbitmq_url) as publisher, listening(rabbitmq_url, to="bg.connection.#") as listener:
        numbers = range(300)
        assert await publish_outcomes(publisher, numbers) == [number % 3 == 0 for number in numbers]
        events = await listener.take_all()
    assert sorted(each.message_id for each in events) == sorted(f"user-{n}/{n}" for n in numbers if n % 3 == 0)


async def test_of_many_events_in_flight_just_those_a_full_queue_refuses_are_refused(rabbitmq_url: str) -> None:
    async with connect(rabbitmq_url) as publisher, listening(rabbitmq_url, most=50) as listener:
        found = await publish_outcomes(publisher, range(200))
        events = await listener.take_all()
    received = {int(each.message_id.partition("/")[2]) for each in events}
    assert [answer is True for answer in found] == [number in received for number in range(200)]
    assert {answer for answer in found if answer is not True} == {EventRefused}


async def test_the_configured_queue_is_declared_and_gets_everything(rabbitmq_url: str) -> None:
    async with connect(rabbitmq_url, queue=QUEUE) as publisher, channel_to(rabbitmq_url) as channel:
        assert await publisher.publish(change(1))
        assert await publisher.publish(change(2, what=PAUSED))
        found = await channel.queue_declare(QUEUE, durable=True)
        assert found.message_count == 2
        got = await channel.basic_get(QUEUE)
        assert got.header.properties.delivery_mode == 2
        await channel.queue_delete(QUEUE)


async def test_with_a_configured_queue_an_event_that_no_queue_takes_is_refused(rabbitmq_url: str) -> None:
    async with connect(rabbitmq_url, queue=QUEUE) as publisher, channel_to(rabbitmq_url) as channel:
        await channel.queue_delete(QUEUE)
        assert await publish_outcome(publisher, change(1)) is EventRefused


async def test_an_exchange_that_went_missing_is_declared_again(rabbitmq_node: Node, rabbitmq_vhost: str) -> None:
    async with connect(rabbitmq_vhost, queue=QUEUE) as publisher, channel_to(rabbitmq_vhost) as channel:
        await channel.exchange_delete(EXCHANGE)
        with capture_logs() as logs:
            with anyio.fail_after(5):
                assert set(await publish_outcomes(publisher, range(50))) == {BrokerUnavailable}
            await until(lambda: publisher.state is BrokerState.CONNECTED)
            assert set(await publish_outcomes(publisher, range(50))) == {True}
    assert [each["action"] for each in logs] == ["actor_crashed", "actor_recovered"]
    assert "no exchange 'bg.events'" in str(logs[0]["exc_info"])


async def test_a_silent_broker_is_dropped_and_no_event_waits_longer_than_for_a_confirm(
    rabbitmq_node: Node, rabbitmq_vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIRM_TIMEOUT", 0.3)
    async with proxy_to(rabbitmq_node.server.port) as wire:
        url = re.sub(r":\d+/", f":{wire.port}/", rabbitmq_vhost)
        async with connect(url, queue=QUEUE) as publisher:
            assert await publisher.publish(change(1))
            wire.silence()
            with anyio.fail_after(2):
                assert set(await publish_outcomes(publisher, range(20))) == {BrokerUnavailable}
            await until(lambda: publisher.state is not BrokerState.CONNECTED)
            wire.resume()
            await until(lambda: publisher.state is BrokerState.CONNECTED)
            assert await publisher.publish(change(2))


async def test_events_in_flight_when_the_wire_is_cut_are_answered_at_once(
    rabbitmq_node: Node, rabbitmq_vhost: str
) -> None:
    async with proxy_to(rabbitmq_node.server.port) as wire:
        url = re.sub(r":\d+/", f":{wire.port}/", rabbitmq_vhost)
        async with connect(url, queue=QUEUE) as publisher, anyio.create_task_group() as group:
            wire.silence()
            found: list[object] = []

            async def publish() -> None:
                found.extend(await publish_outcomes(publisher, range(20)))

            group.start_soon(publish)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(5):
                wire.cut()
                await until(lambda: len(found) == 20)
            assert set(found) == {BrokerUnavailable}
            wire.resume()
            await until(lambda: publisher.state is BrokerState.CONNECTED)


async def test_events_in_flight_when_the_actor_ends_are_not_taken_for_cancelled(
    rabbitmq_node: Node, rabbitmq_vhost: str
) -> None:
    async with proxy_to(rabbitmq_node.server.port) as wire:
        url = re.sub(r":\d+/", f":{wire.port}/", rabbitmq_vhost)
        found: list[object] = []
        async with anyio.create_task_group() as group:

            async def publish() -> None:
                found.extend(await publish_outcomes(publisher, range(20)))

            async with connect(url, queue=QUEUE) as publisher:
                wire.silence()
                group.start_soon(publish)
                await anyio.wait_all_tasks_blocked()
        assert found == [BrokerUnavailable] * 20


@pytest.mark.parametrize("change_of_url", [("guest:guest@", "guest:wrong-one@"), ("test%2F", "other%2F")])
async def test_a_wrong_password_or_virtual_host_is_reported_without_the_password(
    rabbitmq_vhost: str, change_of_url: tuple[str, str]
) -> None:
    with pytest.raises(BrokerUnavailable) as refused:
        await RabbitPublisher(rabbitmq_vhost.replace(*change_of_url), "/test")()
    assert re.search("ACCESS_REFUSED|virtual host", str(refused.value))
    assert "wrong-one" not in str(refused.value)


async def test_changes_wait_while_the_broker_is_away_and_go_out_in_order_when_it_is_back(
    rabbitmq_node: Node, rabbitmq_vhost: str
) -> None:
    async with open_table(None, SetClock()) as table:
        store = Store(table, SetClock())
        await commit_connection(store)
        await to_thread.run_sync(rabbitmq_node.server.stop, SIGKILL)
        async with connect(rabbitmq_vhost, queue=QUEUE) as publisher:
            relay = Relay(store.outbox, publisher, Observer())
            for number in range(30):
                await store.commits.write(await readings_commit_of(store.readings, [reading(number)]))
                with pytest.raises(BrokerUnavailable):
                    await relay.publish_shard(shard_of(USER), {USER: []})
            assert len(await unpublished_changes(store)) == 31

            await to_thread.run_sync(rabbitmq_node.server.start)
            await until(lambda: publisher.state is BrokerState.CONNECTED)
            assert (await relay.publish_shard(shard_of(USER), {USER: []})).settled == 31
            assert await unpublished_changes(store) == []

            await to_thread.run_sync(rabbitmq_node.server.stop, SIGKILL)
            await until(lambda: publisher.state is not BrokerState.CONNECTED)
            await to_thread.run_sync(rabbitmq_node.server.start)
            await until(lambda: publisher.state is BrokerState.CONNECTED)
        async with channel_to(rabbitmq_vhost) as channel:
            event = [await channel.basic_get(QUEUE) for _ in range(31)]
        numbers = [msgspec.json.decode(each.body)["data"]["change"] for each in event]
        assert numbers == list(range(1, 32)), "a confirmed event is kept although the broker fails"
