"""Looking at a broker without changing it."""

import aiormq
import aiormq.abc
import anyio
import msgspec

from bg_ingest.adapters.rabbitmq.failures import translated
from bg_ingest.adapters.rabbitmq.publisher import CONNECT_WITHIN
from bg_ingest.domain.events import EXCHANGE


class Inspected(msgspec.Struct, frozen=True):
    """What is there."""

    exchange: bool
    waiting: int | None
    """Events in the queue; None when there is no such queue."""
    consumers: int | None = None


async def inspected(url: str, queue: str | None) -> Inspected:
    """Connect and look; BrokerUnavailable says why it cannot be used."""
    with translated(), anyio.fail_after(CONNECT_WITHIN):
        connection = await aiormq.connect(url)
    try:
        with translated():
            return await _look(connection, queue)
    finally:
        await connection.close()


async def _look(connection: aiormq.abc.AbstractConnection, queue: str | None) -> Inspected:
    """Ask on a channel each: the broker closes the one that asked for what is not there."""
    try:
        await (await connection.channel()).exchange_declare(EXCHANGE, passive=True)
        exchange = True
    except aiormq.exceptions.ChannelNotFoundEntity:
        exchange = False
    if queue is None:
        return Inspected(exchange, None)
    try:
        found = await (await connection.channel()).queue_declare(queue, passive=True)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return Inspected(exchange, None)
    return Inspected(exchange, found.message_count, found.consumer_count)
