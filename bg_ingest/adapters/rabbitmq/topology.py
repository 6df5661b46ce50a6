"""Exchange and queue of the service: those of an operator are used as they are, absent ones are declared.

A refused request closes its channel, so that each request has a channel of its own.
"""

import asyncio  # noqa: TID251 - aiormq raises its errors
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import aiormq
import anyio
import msgspec
from aiormq.abc import AbstractChannel
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from bg_ingest.adapters.rabbitmq.errors import name_refusals, translate_errors
from bg_ingest.domain.changes import EVENT_TYPES
from bg_ingest.domain.cloud_events import EXCHANGE
from bg_ingest.errors import BrokerUnavailable

CONNECT_TIMEOUT, CLOSE_TIMEOUT = 5.0, 2.0
"""Seconds. CONNECT_TIMEOUT bounds the login, and the requests after it."""

Result = TypeVar("Result")


class Topology(msgspec.Struct, frozen=True):
    """Exchange and queue as the service uses them."""

    is_topic: bool | None
    """None if the user has no right to find out."""
    is_bound: bool | None = None
    """None without a queue, and if the user has no right to bind it."""
    waiting: int | None = None
    """Events in the queue; None without a queue."""
    consumers: int | None = None


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


async def prepare(connection: aiormq.Connection, queue: str | None) -> Topology:
    """Make sure that events reach the exchange, and the queue if one is given. BrokerRefused names the refused part."""
    with translate_errors(), anyio.fail_after(CONNECT_TIMEOUT):
        topology = Topology(await _prepare_exchange(connection))
        if queue is not None:
            topology = await _prepare_queue(connection, queue, topology.is_topic)
        await _try_to_publish(connection)
        return topology


async def try_broker(url: str, queue: str | None) -> Topology:
    """Connect and prepare, as the service does at its start."""
    async with open_connection(url) as connection:
        return await prepare(connection, queue)


async def _prepare_exchange(connection: aiormq.Connection) -> bool | None:
    """Declare the exchange if it is absent; return True if it is a topic exchange.

    A passive declaration does not show the type. A declaration of an existing exchange changes nothing, and its
    refusal names the first difference, of which the type is compared before the others.
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
            return None
    return True


async def _prepare_queue(connection: aiormq.Connection, queue: str, is_topic: bool | None) -> Topology:  # noqa: FBT001 - passed on
    async def bind(channel: AbstractChannel) -> bool:
        await channel.queue_bind(queue, EXCHANGE, routing_key="#")
        return True

    with name_refusals("queue", f"the queue {queue}"):
        declared = await _find(connection, lambda channel: channel.queue_declare(queue, passive=True))
        if declared is not None:
            try:
                is_bound = await _request(connection, bind)
            except ChannelAccessRefused:
                is_bound = None
        else:
            await _find(connection, bind)  # rights are checked first: a queue that cannot be bound is not declared
            declared = await _request(connection, lambda channel: channel.queue_declare(queue, durable=True))
            is_bound = await _request(connection, bind)
    return Topology(is_topic, is_bound, declared.message_count, declared.consumer_count)


async def _try_to_publish(connection: aiormq.Connection) -> None:
    """Publish an event of each type in a transaction that is rolled back: checked like any event, and never routed.

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
    """Return the answer, or None if there is no such object."""
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
