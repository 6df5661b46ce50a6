"""Publishes to a topic exchange, each event confirmed; and the actor whose run is the connection."""

import logging

import aiormq
import anyio
from aiormq.abc import AbstractChannel
from anyio.abc import TaskStatus

from bg_ingest.adapters.rabbitmq.errors import Unroutable, connection_lost, translate_errors
from bg_ingest.domain.changes import Change
from bg_ingest.domain.cloud_events import CONTENT_TYPE, EXCHANGE, encode_cloud_event
from bg_ingest.errors import BrokerUnavailable

CONNECT_TIMEOUT, CONFIRM_TIMEOUT, CLOSE_TIMEOUT = 5.0, 10.0, 2.0
"""Seconds. A broker without memory or disk does not say so to a publisher: it stops confirming."""

PERSISTENT_DELIVERY = 2

logging.getLogger("aiormq").setLevel(logging.CRITICAL)
"""It logs each failed attempt, and at DEBUG each event. Whoever runs the actor logs when it breaks and recovers."""


class RabbitPublisher:
    """The port Publisher, while the actor that it is too is connected; nothing is kept while it is not.

    Many events may be in flight at once, but none twice. With a ``queue``, that queue is declared and gets everything,
    and an event that no queue takes is refused.
    """

    def __init__(self, url: str, source: str, *, queue: str | None = None) -> None:
        self._url = url
        self._source = source
        self._queue = queue
        self._channel: AbstractChannel | None = None
        self._ended = anyio.Event()
        self._tried = False

    @property
    def connected(self) -> bool:
        return self._channel is not None

    async def publish(self, change: Change) -> bool:
        channel, ended = self._channel, self._ended
        if channel is None:
            raise BrokerUnavailable("RabbitMQ is not connected.")
        body, properties = encode_cloud_event(change, self._source), _to_properties(change)
        try:
            with translate_errors():
                await channel.basic_publish(
                    body,
                    exchange=EXCHANGE,
                    routing_key=change.type,
                    properties=properties,
                    mandatory=True,
                    timeout=CONFIRM_TIMEOUT,
                )
        except Unroutable:
            if self._queue is not None:
                raise
            return False
        except BrokerUnavailable:
            ended.set()
            raise
        return True

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Connect, and stay until the connection or its channel ends: BrokerUnavailable says why.

        The first run has started when its attempt to connect has ended, whichever way: without a broker the service
        serves, and changes wait. Later ones have when they are connected. How often to run is the caller's policy.
        """
        first, self._tried = not self._tried, True
        connection = aiormq.Connection(self._url)
        try:
            try:
                channel = await self._open_channel(connection)
            except BrokerUnavailable:
                if first:
                    task_status.started()
                raise
            await self._wait_until_closed(connection, channel, task_status)
        finally:
            self._channel = None
            with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
                await connection.close()

    async def _open_channel(self, connection: aiormq.Connection) -> AbstractChannel:
        with translate_errors(), anyio.fail_after(CONNECT_TIMEOUT):
            await connection.connect({"connection_name": "bg-ingest"})
            channel = await connection.channel()
            await channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
            if self._queue is not None:
                await channel.queue_declare(self._queue, durable=True)
                await channel.queue_bind(self._queue, EXCHANGE, routing_key="#")
            return channel

    async def _wait_until_closed(
        self, connection: aiormq.Connection, channel: AbstractChannel, task_status: TaskStatus[None]
    ) -> None:
        self._ended = ended = anyio.Event()
        for part in (connection, channel):
            part.closing.add_done_callback(lambda _: ended.set())
        self._channel = channel
        task_status.started()
        await ended.wait()
        for part in (channel, connection):
            if part.is_closed:
                raise connection_lost(part.closing.exception())
        raise connection_lost(TimeoutError())  # a publisher said so


def _to_properties(change: Change) -> aiormq.spec.Basic.Properties:
    return aiormq.spec.Basic.Properties(
        content_type=CONTENT_TYPE,
        delivery_mode=PERSISTENT_DELIVERY,
        message_id=change.id,
        timestamp=change.recorded_at,
        message_type=change.type,
    )
