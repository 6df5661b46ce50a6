"""Stream of RabbitMQ: all events remain for consumers that start later, beside a queue or instead of one."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
import pytest
from aiormq.abc import AbstractChannel, DeliveredMessage

from bg_ingest.adapters.rabbitmq.publisher import RabbitPublisher
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.doctor import Verdict
from bg_ingest.doctor.remote import check_broker
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.replica_status import BrokerState
from bg_ingest.errors import BrokerUnavailable, EventRefused
from bg_ingest.ports import Observer
from bg_ingest.services.publishing.relay import CommittedChange, Relay
from bg_ingest.settings import Settings
from bg_ingest.store import Store
from tests.contracts.test_publisher import change
from tests.fakes.clock import SetClock
from tests.fakes.faults import CallWrapper
from tests.harness.sample_values import commit_connection, connection, reading, readings_commit_of
from tests.integration.listener import channel_to
from tests.integration.rabbitmq_node import Node
from tests.integration.test_rabbitmq import QUEUE, connect, publish_outcome

STREAM = "log"
USERS = [UserId(f"user-{number}") for number in range(3)]
CHANGES = 20
LOST_CONFIRM_STEP = 7


class LostConfirms(CallWrapper):
    """Loses the answer of every seventh event that the broker confirmed."""

    calls = 0

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = await call()
        self.calls += 1
        if self.calls % LOST_CONFIRM_STEP == 0:
            raise BrokerUnavailable("RabbitMQ did not answer in time.")
        return answer


async def publish_changes(store: Store, publisher: RabbitPublisher) -> int:
    """Publish changes of several users until each is settled, and return the number of events."""
    faulty: Any = LostConfirms(publisher)
    relay = Relay(store.outbox, faulty, Observer())
    for user in USERS:
        await commit_connection(store, connection(id=ConnectionId(user, "acme"), provider_account=user))
        for number in range(1, CHANGES):
            await store.commits.write(await readings_commit_of(store.readings, [reading(number)], user))
    for shard in {shard_of(user) for user in USERS}:
        while waiting := {entry.user: list[CommittedChange]() for entry in await store.outbox.list_shard(shard)}:
            try:
                await relay.publish_shard(shard, waiting)
            except BrokerUnavailable:
                continue
    return int(faulty.calls)


async def read_from_first(channel: AbstractChannel, stream: str, count: int) -> list[tuple[str, int]]:
    """Read as a consumer of a stream that starts now; return user and change of each event."""
    events: list[tuple[str, int]] = []
    complete = anyio.Event()

    async def take(message: DeliveredMessage) -> None:
        data = msgspec.json.decode(message.body)["data"]
        events.append((data["user_id"], data["change"]))
        await channel.basic_ack(message.delivery_tag or 0)
        if len(events) == count:
            complete.set()

    await channel.basic_qos(prefetch_count=10)
    await channel.basic_consume(stream, take, arguments={"x-stream-offset": "first"})
    with anyio.fail_after(20):
        await complete.wait()
    return events


def first_deliveries(events: list[tuple[str, int]], user: UserId) -> list[int]:
    return list(dict.fromkeys(number for name, number in events if name == user))


@pytest.mark.parametrize("queue", [None, QUEUE], ids=["stream alone", "queue and stream"])
async def test_a_consumer_that_starts_later_has_all_numbers_of_each_user_in_order(
    rabbitmq_vhost: str, queue: str | None
) -> None:
    async with open_table(None, SetClock()) as table, connect(rabbitmq_vhost, queue=queue, stream=STREAM) as publisher:
        published = await publish_changes(Store(table, SetClock()), publisher)
    assert published > CHANGES * len(USERS), "some events are published twice"
    for _ in range(2):  # events remain for the next consumer
        async with channel_to(rabbitmq_vhost) as channel:
            events = await read_from_first(channel, STREAM, published)
            for user in USERS:
                assert first_deliveries(events, user) == list(range(1, CHANGES + 1))
            if queue:
                assert (await channel.queue_declare(queue, passive=True)).message_count == published


async def test_an_absent_stream_is_declared_with_its_type_and_age(rabbitmq_node: Node, rabbitmq_vhost: str) -> None:
    async with connect(rabbitmq_vhost, stream=STREAM), channel_to(rabbitmq_vhost) as channel:
        # a declaration with other arguments would be refused
        arguments: dict[str, Any] = {"x-queue-type": "stream", "x-max-age": "2D"}
        await channel.queue_declare(STREAM, durable=True, arguments=arguments)


async def test_with_a_stream_alone_an_event_that_nothing_receives_is_refused(rabbitmq_vhost: str) -> None:
    async with connect(rabbitmq_vhost, stream=STREAM) as publisher, channel_to(rabbitmq_vhost) as channel:
        await channel.queue_delete(STREAM)
        assert await publish_outcome(publisher, change(1)) is EventRefused
        with anyio.fail_after(10):
            while await publish_outcome(publisher, change(1)) is not True:  # noqa: ASYNC110 - the broker has no event
                await anyio.sleep(0.05)


@pytest.mark.parametrize("arguments", [None, {"x-queue-type": "stream", "x-max-age": "1h"}])
async def test_a_queue_of_the_operator_with_the_name_of_the_stream_is_used_as_it_is(
    rabbitmq_vhost: str, arguments: dict[str, Any] | None
) -> None:
    async with channel_to(rabbitmq_vhost) as channel:
        await channel.queue_declare(STREAM, durable=True, arguments=arguments)
        async with connect(rabbitmq_vhost, stream=STREAM) as publisher:
            assert publisher.state is BrokerState.CONNECTED
            assert await publisher.publish(change(1))
        options: dict[str, Any] = {"rabbitmq_url": rabbitmq_vhost, "rabbitmq_stream": STREAM}
        assert {finding.verdict for finding in await check_broker(Settings(**options))} == {Verdict.OK}


async def test_a_refused_stream_is_named_by_service_and_doctor(rabbitmq_vhost: str) -> None:
    async with channel_to(rabbitmq_vhost) as channel:
        await channel.queue_declare(STREAM, exclusive=True)
        async with connect(rabbitmq_vhost, queue=QUEUE, stream=STREAM) as publisher:
            assert publisher.state is BrokerState.QUEUE_REFUSED
        options: dict[str, Any] = {"rabbitmq_url": rabbitmq_vhost, "rabbitmq_stream": STREAM}
        (finding,) = await check_broker(Settings(**options))
    assert (finding.verdict, f"the queue {STREAM}" in finding.found) == (Verdict.FAILED, True)
