"""Publisher to a topic exchange with confirms, and at the same time the actor that holds the connection.

Texts of errors quote the broker, never a URL or an event.
"""

import asyncio  # noqa: TID251 - aiormq runs on asyncio alone, and only an asyncio task shows its cancellation
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import aiormq
import anyio
from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPChannelError, AMQPConnectionError, DeliveryError, InvalidFrameError, PublishError
from anyio.abc import TaskStatus

from bg_ingest.domain.changes import Change
from bg_ingest.domain.cloud_events import CONTENT_TYPE, EXCHANGE, encode_cloud_event
from bg_ingest.errors import BrokerUnavailable, EventRefused

CONNECT_TIMEOUT, CONFIRM_TIMEOUT, CLOSE_TIMEOUT = 5.0, 10.0, 2.0
"""Seconds. A broker without free memory or disk sends no error to a publisher, but stops sending confirms."""

PERSISTENT_DELIVERY = 2

logging.getLogger("aiormq").setLevel(logging.CRITICAL)
"""aiormq logs each failed attempt, and at DEBUG each event. The supervisor logs failure and recovery instead."""


class Unroutable(EventRefused):
    """No queue receives the event, which stays in the outbox: bind a queue to the exchange, or unset RABBITMQ_QUEUE."""


class RabbitPublisher:
    """Implements ``Publisher`` and ``Broker``. Without a connection, nothing is buffered; BrokerUnavailable is raised.

    Many events may be in flight at once, but none twice. A given ``queue`` is declared and bound to all events.
    With it, EventRefused is raised for an event that no queue receives.
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
        """Connect, and return with BrokerUnavailable once the connection or its channel ends.

        The first run reports its start after the attempt to connect, even a failed one. Without a broker the service
        works, and changes wait in the outbox. Later runs report it once connected. The caller decides on repetition.
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
        for endpoint in (connection, channel):
            endpoint.closing.add_done_callback(lambda _: ended.set())
        self._channel = channel
        task_status.started()
        await ended.wait()
        for endpoint in (channel, connection):
            if endpoint.is_closed:
                raise connection_lost(endpoint.closing.exception())
        raise connection_lost(TimeoutError())  # ``publish`` has set ``ended``


def _to_properties(change: Change) -> aiormq.spec.Basic.Properties:
    return aiormq.spec.Basic.Properties(
        content_type=CONTENT_TYPE,
        delivery_mode=PERSISTENT_DELIVERY,
        message_id=change.id,
        timestamp=change.recorded_at,
        message_type=change.type,
    )


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise a BrokerError for any error in the body. The body must call aiormq only."""
    try:
        yield
    except PublishError:
        raise Unroutable from None
    except DeliveryError:
        raise EventRefused("RabbitMQ refuses the event: a queue is full or has failed.") from None
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        raise connection_lost(None) from None
    except Exception as error:  # noqa: BLE001 - aiormq raises errors of any class, also a bare Exception, for a lost connection
        raise connection_lost(error) from None


def connection_lost(error: BaseException | None) -> BrokerUnavailable:
    """Return the error for a connection that ended or could not be opened for this reason."""
    match error:
        case TimeoutError():
            return BrokerUnavailable("RabbitMQ did not answer in time.")
        case AMQPConnectionError() | AMQPChannelError() | OSError():
            text = " ".join(map(str, error.args))
            return BrokerUnavailable(f"RabbitMQ was lost: {text or type(error).__name__}")
        case InvalidFrameError():  # its text may quote an event
            return BrokerUnavailable("RabbitMQ sent an unexpected frame. At a start: does the virtual host exist?")
        case None:
            return BrokerUnavailable("RabbitMQ was lost.")
        case _:
            return BrokerUnavailable(f"RabbitMQ was lost: {type(error).__name__}")


def _is_cancelled() -> bool:
    """Distinguish a cancelled task from a lost connection: aiormq raises CancelledError for both."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
