"""Looking at a broker without changing it."""

import aiormq
import aiormq.abc
import anyio
import msgspec

from bg_ingest.adapters.rabbitmq.errors import translate_errors
from bg_ingest.adapters.rabbitmq.publisher import CONNECT_TIMEOUT
from bg_ingest.domain.cloud_events import EXCHANGE


class BrokerState(msgspec.Struct, frozen=True):
    """What is there."""

    exchange: bool
    waiting: int | None
    """Events in the queue; None when there is no such queue."""
    consumers: int | None = None


async def inspect_broker(url: str, queue: str | None) -> BrokerState:
    """Connect and look; BrokerUnavailable says why it cannot be used."""
    with translate_errors(), anyio.fail_after(CONNECT_TIMEOUT):
        connection = await aiormq.connect(url)
    try:
        with translate_errors():
            return await _inspect(connection, queue)
    finally:
        await connection.close()


async def _inspect(connection: aiormq.abc.AbstractConnection, queue: str | None) -> BrokerState:
    """Ask on a channel each: the broker closes the one that asked for what is not there."""
    try:
        await (await connection.channel()).exchange_declare(EXCHANGE, passive=True)
        exchange = True
    except aiormq.exceptions.ChannelNotFoundEntity:
        exchange = False
    if queue is None:
        return BrokerState(exchange, None)
    try:
        found = await (await connection.channel()).queue_declare(queue, passive=True)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return BrokerState(exchange, None)
    return BrokerState(exchange, found.message_count, found.consumer_count)
