"""Exchange and queues of the service. Existing ones are used as they are, absent ones are declared.

A refused request closes its channel. Therefore each request has a channel of its own.
"""

import asyncio  # noqa: TID251 - aiormq raises its errors
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import aiormq
import anyio
import msgspec
from aiormq.abc import AbstractChannel, ArgumentsType
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from pamqp.commands import Queue

from bg_ingest.adapters.rabbitmq.errors import name_refusals, translate_errors
from bg_ingest.domain.changes import EVENT_TYPES
from bg_ingest.domain.cloud_events import EXCHANGE
from bg_ingest.errors import BrokerUnavailable

CONNECT_TIMEOUT, CLOSE_TIMEOUT = 5.0, 2.0
"""Seconds. CONNECT_TIMEOUT bounds the login, and the requests after it."""

Result = TypeVar("Result")


class EventQueue(msgspec.Struct, frozen=True):
    """Durable queue for all events."""

    name: str
    max_age: str | None = None
    """x-max-age of a stream; None for a classic queue."""

    @property
    def arguments(self) -> ArgumentsType | None:
        """Arguments of the declaration if the queue is absent. An existing queue keeps its own."""
        return {"x-queue-type": "stream", "x-max-age": self.max_age} if self.max_age else None


class QueueState(msgspec.Struct, frozen=True):
    queue: EventQueue
    is_binding_known: bool
    """True if the queue is bound; False if the user of the login may not bind it, so that the binding is unknown."""
    waiting: int
    """Events in the queue."""
    consumers: int


class Topology(msgspec.Struct, frozen=True):
    """Exchange and queues as the service uses them."""

    is_type_known: bool
    """True for a topic exchange; False if the user of the login may not declare it, because only a declaration shows
    the type."""
    queues: tuple[QueueState, ...] = ()


@asynccontextmanager
async def open_connection(url: str) -> AsyncIterator[aiormq.Connection]:
    connection = aiormq.Connection(url)
    try:
        with translate_errors(), anyio.fail_after(CONNECT_TIMEOUT):
            await connection.connect({"connection_name": "bg-ingest"})
        yield connection
    finally:
        # if the broker blocks the connection, aiormq raises a CancelledError, which would end the caller silently
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True), suppress(asyncio.CancelledError):
            await connection.close()


async def prepare(connection: aiormq.Connection, queues: Sequence[EventQueue]) -> Topology:
    """Make sure that events reach the exchange and the queues. BrokerRefused names the refused part."""
    with translate_errors(), anyio.fail_after(CONNECT_TIMEOUT):
        is_type_known = await _prepare_exchange(connection)
        states = [await _prepare_queue(connection, queue) for queue in queues]
        await _try_to_publish(connection)
        return Topology(is_type_known, tuple(states))


async def try_broker(url: str, queues: Sequence[EventQueue]) -> Topology:
    """Connect and prepare, as the service does at its start."""
    async with open_connection(url) as connection:
        return await prepare(connection, queues)


async def _prepare_exchange(connection: aiormq.Connection) -> bool:
    """Declare the exchange if it is absent. Return True for a topic exchange, False for an unknown type.

    BrokerRefused: the exchange has another type, or is absent and may not be declared. A passive declaration does not
    show the type. A declaration of an existing exchange changes nothing, and its refusal names the first difference.
    RabbitMQ compares the type first.
    """
    found = await _find(connection, lambda channel: channel.exchange_declare(EXCHANGE, passive=True))
    with name_refusals("exchange", f"the exchange {EXCHANGE}"):
        try:
            await _request(
                connection, lambda channel: channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
            )
        except ChannelPreconditionFailed as error:
            if "arg 'type'" in str(error):
                raise
        except ChannelAccessRefused:
            if found is None:
                raise
            return False
    return True


async def _prepare_queue(connection: aiormq.Connection, queue: EventQueue) -> QueueState:
    async def bind(channel: AbstractChannel) -> Queue.BindOk:
        return await channel.queue_bind(queue.name, EXCHANGE, routing_key="#")

    async def declare(channel: AbstractChannel) -> Queue.DeclareOk:
        return await channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)

    is_binding_known = True
    with name_refusals("queue", f"the queue {queue.name}"):
        declared = await _find(connection, lambda channel: channel.queue_declare(queue.name, passive=True))
        if declared is not None:
            try:
                await _request(connection, bind)
            except ChannelAccessRefused:
                is_binding_known = False
        else:
            await _find(connection, bind)  # checks the rights, so that no queue is declared that cannot be bound
            declared = await _request(connection, declare)
            await _request(connection, bind)
    return QueueState(queue, is_binding_known, declared.message_count or 0, declared.consumer_count or 0)


async def _try_to_publish(connection: aiormq.Connection) -> None:
    """Publish one event of each type in a transaction, and roll back. The broker checks the events, but routes none.

    A broker without free memory or disk does not refuse events, but stops reading them.
    """
    with name_refusals("publish", f"events to the exchange {EXCHANGE}"):
        async with _channel(connection) as channel:
            try:
                with anyio.fail_after(CONNECT_TIMEOUT / 2):
                    await _publish_and_roll_back(channel)
            except TimeoutError:
                raise BrokerUnavailable("RabbitMQ takes no events. Is its memory or disk full?") from None


async def _publish_and_roll_back(channel: AbstractChannel) -> None:
    try:
        await channel.tx_select()
        for event_type in EVENT_TYPES.values():
            await channel.basic_publish(b"", exchange=EXCHANGE, routing_key=event_type)
        await channel.tx_rollback()
    except ChannelInvalidStateError:  # an event has no answer: its refusal closes the channel during a later step
        await channel.closing
        raise


async def _find(
    connection: aiormq.Connection, request: Callable[[AbstractChannel], Awaitable[Result]]
) -> Result | None:
    """Return the answer, or None if the exchange or the queue does not exist."""
    try:
        return await _request(connection, request)
    except ChannelNotFoundEntity:
        return None


async def _request(connection: aiormq.Connection, request: Callable[[AbstractChannel], Awaitable[Result]]) -> Result:
    async with _channel(connection) as channel:
        return await request(channel)


@asynccontextmanager
async def _channel(connection: aiormq.Connection) -> AsyncIterator[AbstractChannel]:
    channel = await connection.channel(publisher_confirms=False)
    try:
        yield channel
    finally:
        await channel.close()
