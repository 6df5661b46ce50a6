"""Plain AMQP consumer as downstream would have it, with nothing of ours but the bytes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiormq
from aiormq.abc import AbstractChannel
from pamqp.common import FieldTable

from bg_ingest.adapters.memory import Event
from bg_ingest.domain.cloud_events import EXCHANGE


class Listener:
    """A queue on the exchange. Events stay in it until they are taken."""

    def __init__(self, channel: AbstractChannel, queue: str) -> None:
        self.channel = channel
        self.queue = queue

    async def take(self) -> Event | None:
        """Take the next event, or return None if the queue is empty. The queue holds all events confirmed before."""
        got = await self.channel.basic_get(self.queue, no_ack=True)
        properties = got.header.properties
        if isinstance(got.delivery, aiormq.spec.Basic.GetEmpty):
            return None
        return Event(got.routing_key or "", properties.message_id or "", properties.content_type or "", bytes(got.body))

    async def take_all(self) -> list[Event]:
        taken = []
        while event := await self.take():
            taken.append(event)
        return taken


@asynccontextmanager
async def channel_to(url: str) -> AsyncIterator[AbstractChannel]:
    async with aiormq.connect(url) as connection:
        yield await connection.channel()


@asynccontextmanager
async def listening(
    url: str, *, to: str = "#", most: int | None = None, queue: str = "listener"
) -> AsyncIterator[Listener]:
    """Listen to an exchange that exists, with a queue that goes when the context closes and may have a limit."""
    limit: FieldTable = {"x-max-length": most, "x-overflow": "reject-publish"}
    async with channel_to(url) as channel:
        await channel.queue_declare(queue, arguments=limit if most else None)
        await channel.queue_bind(queue, EXCHANGE, routing_key=to)
        try:
            yield Listener(channel, queue)
        finally:
            await channel.queue_delete(queue)
