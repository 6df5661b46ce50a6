"""Hints between two replicas over a real RabbitMQ."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote

import aiormq
import anyio
import msgspec
import pytest

from bg_ingest.adapters.rabbitmq import hints as rabbit_hints
from bg_ingest.adapters.rabbitmq.hints import HINT_EXCHANGE, HintRequest, RabbitHints
from bg_ingest.domain.ids import UserId
from bg_ingest.ports import Hint
from tests.integration.listener import channel_to
from tests.integration.rabbitmq_node import Node
from workers.supervisor import Backoff, Supervisor

ADA, BEN = UserId("ada"), UserId("ben")


def vhost_name(url: str) -> str:
    return unquote(url.rpartition("/")[2])


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[RabbitHints]:
    """Run the hints of a replica as the service does."""
    hints = RabbitHints(url)
    supervisor = Supervisor("hints", hints, backoff=Backoff(first=0.05, ceiling=0.2), crash_limit=None)
    async with anyio.create_task_group() as group:
        await group.start(supervisor)
        yield hints
        group.cancel_scope.cancel()


async def received_by(hints: RabbitHints, sender: RabbitHints, hint: Hint) -> Hint:
    """Send the hint until one arrives, because a hint may be lost."""
    with anyio.fail_after(60):
        while True:
            sender.send(hint)
            with anyio.move_on_after(0.2):
                return await hints.receive()


async def test_a_hint_reaches_every_replica_and_those_of_one_user_are_merged(rabbitmq_url: str) -> None:
    async with connect(rabbitmq_url) as one, connect(rabbitmq_url) as two:
        assert one.connected
        assert two.connected
        for number in (1, 2, 3):
            one.send(Hint(ADA, number))
        two.send(Hint(BEN, 7))
        with anyio.fail_after(20):
            for replica in (one, two):
                last_changes: dict[UserId, int] = {}
                while last_changes != {ADA: 3, BEN: 7}:
                    user, last_change = await replica.receive()
                    last_changes[user] = last_change


async def test_hints_arrive_again_after_the_connection_was_lost(rabbitmq_node: Node, rabbitmq_vhost: str) -> None:
    async with connect(rabbitmq_vhost) as one, connect(rabbitmq_vhost) as two:
        assert await received_by(two, one, Hint(ADA, 1)) == Hint(ADA, 1)
        rabbitmq_node.close_connections(vhost_name(rabbitmq_vhost))
        received = await received_by(two, one, Hint(BEN, 2))
        while received.user == ADA:
            received = await received_by(two, one, Hint(BEN, 2))
        assert received == Hint(BEN, 2)


async def test_after_its_first_minutes_a_replica_sends_only_the_hints_that_others_request(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbit_hints, "REQUEST_SECONDS", 0.0)
    async with connect(rabbitmq_url) as one, connect(rabbitmq_url) as two:
        monkeypatch.undo()
        one.send(Hint(ADA, 1))
        await one.request()
        one.send(Hint(ADA, 2))
        await two.request()
        assert await received_by(two, one, Hint(BEN, 3)) == Hint(BEN, 3)


async def next_request(url: str) -> HintRequest:
    """Take the next request from the queue ``requests``."""
    async with channel_to(url) as channel:
        while True:
            got = await channel.basic_get("requests", no_ack=True)
            if not isinstance(got.delivery, aiormq.spec.Basic.GetEmpty):
                return msgspec.json.decode(got.body, type=HintRequest)


async def test_a_request_is_repeated_on_a_new_connection(rabbitmq_node: Node, rabbitmq_vhost: str) -> None:
    async with connect(rabbitmq_vhost) as hints:
        async with channel_to(rabbitmq_vhost) as channel:
            await channel.queue_declare("requests")
            await channel.queue_bind("requests", HINT_EXCHANGE)
        with anyio.fail_after(60):
            await hints.request()
            await hints.request()
            first = await next_request(rabbitmq_vhost)
            rabbitmq_node.close_connections(vhost_name(rabbitmq_vhost))
            second = await next_request(rabbitmq_vhost)
        assert second.requested_by != first.requested_by, "the second call was within the time of the first one's"


async def test_a_request_without_a_connection_does_not_wait() -> None:
    with anyio.fail_after(1):
        await RabbitHints("amqp://127.0.0.1:1/").request()


async def test_a_replica_starts_without_the_right_to_the_exchange(rabbitmq_node: Node, rabbitmq_vhost: str) -> None:
    restricted = rabbitmq_node.add_user(vhost_name(rabbitmq_vhost), configure="", write=".*", read=".*")
    async with connect(restricted) as hints:
        hints.send(Hint(ADA, 1))
        assert not hints.connected
