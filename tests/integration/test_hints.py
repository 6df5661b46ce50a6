"""Hints between two replicas over a real RabbitMQ."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from bg_ingest.adapters.rabbitmq.hints import RabbitHints
from bg_ingest.domain.ids import UserId
from bg_ingest.ports import Hint
from tests.integration.rabbitmq_node import Node
from workers.supervisor import Backoff, Supervisor

ADA, BEN = UserId("ada"), UserId("ben")


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
        for connection in rabbitmq_node.api.get("/connections").json():
            rabbitmq_node.api.delete(f"/connections/{connection['name']}")
        received = await received_by(two, one, Hint(BEN, 2))
        while received.user == ADA:
            received = await received_by(two, one, Hint(BEN, 2))
        assert received == Hint(BEN, 2)


async def test_a_replica_starts_without_the_right_to_the_exchange(rabbitmq_node: Node, rabbitmq_vhost: str) -> None:
    vhost = rabbitmq_vhost.rpartition("/")[2].replace("%2F", "/")
    restricted = rabbitmq_node.add_user(vhost, configure="", write=".*", read=".*")
    async with connect(restricted) as hints:
        hints.send(Hint(ADA, 1))
        assert not hints.connected
