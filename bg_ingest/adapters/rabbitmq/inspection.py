"""Inspection of a broker, without changes to it."""

import aiormq
import aiormq.abc
import anyio
import msgspec

from bg_ingest.adapters.rabbitmq.publisher import CONNECT_TIMEOUT, translate_errors
from bg_ingest.domain.cloud_events import EXCHANGE


class BrokerState(msgspec.Struct, frozen=True):
    """Existence of the exchange, and counts of the queue."""

    exchange: bool
    waiting: int | None
    """Events in the queue; None without such a queue."""
    consumers: int | None = None


async def inspect_broker(url: str, queue: str | None) -> BrokerState:
    """Connect and inspect. BrokerUnavailable gives the reason of a failure."""
    with translate_errors(), anyio.fail_after(CONNECT_TIMEOUT):
        connection = await aiormq.connect(url)
    try:
        with translate_errors():
            return await _inspect(connection, queue)
    finally:
        await connection.close()


async def _inspect(connection: aiormq.abc.AbstractConnection, queue: str | None) -> BrokerState:
    """Use one channel per check, because the broker closes the channel of a request for a missing name."""
    try:
        await (await connection.channel()).exchange_declare(EXCHANGE, passive=True)
        exchange = True
    except aiormq.exceptions.ChannelNotFoundEntity:
        exchange = False
    if queue is None:
        return BrokerState(exchange, None)
    try:
        declared = await (await connection.channel()).queue_declare(queue, passive=True)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return BrokerState(exchange, None)
    return BrokerState(exchange, declared.message_count, declared.consumer_count)
