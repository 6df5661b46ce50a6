"""Publisher to a topic exchange with confirms, and at the same time the actor that holds the connection.

Texts of errors quote the broker, never a URL or an event.
"""

import logging
from collections.abc import Sequence

import aiormq
import anyio
from aiormq.abc import AbstractChannel
from anyio.abc import TaskStatus

from bg_ingest.adapters.rabbitmq.errors import Unroutable, connection_lost, translate_errors
from bg_ingest.adapters.rabbitmq.topology import CONNECT_TIMEOUT, EventQueue, open_connection, prepare
from bg_ingest.domain.changes import Change
from bg_ingest.domain.cloud_events import CONTENT_TYPE, EXCHANGE, encode_cloud_event
from bg_ingest.domain.replica_status import BrokerState
from bg_ingest.errors import BrokerRefused, BrokerUnavailable

CONFIRM_TIMEOUT = 10.0
"""Seconds. A broker without free memory or disk sends no error to a publisher, but stops sending confirms."""

RECHECK_SECONDS = 5.0
"""Shortest time in seconds between two preparations of the queues after unroutable events."""

PERSISTENT_DELIVERY = 2

logging.getLogger("aiormq").setLevel(logging.CRITICAL)
"""aiormq logs each failed attempt, and at DEBUG each event. The supervisor logs failure and recovery instead."""


class RabbitPublisher:
    """Implements ``Publisher`` and ``Broker``. Without a connection, nothing is buffered; BrokerUnavailable is raised.

    Many events may be in flight at once, but the same event only once, because aiormq finds a returned event by its id.
    The ``queues`` are declared if absent, and bound to all events. With ``queues``, an event that no queue receives
    raises EventRefused.
    """

    def __init__(self, url: str, source: str, *, queues: Sequence[EventQueue] = ()) -> None:
        self._url = url
        self._source = source
        self._queues = queues
        self._channel: AbstractChannel | None = None
        self._ended = anyio.Event()
        self._unroutable = anyio.Event()
        self._tried = False
        self.state = BrokerState.UNREACHABLE

    async def publish(self, change: Change) -> bool:
        channel = self._channel
        if channel is None:
            raise BrokerUnavailable("RabbitMQ is not connected.")
        body, properties = encode_cloud_event(change, self._source), _to_properties(change)
        try:
            with translate_errors():
                await channel.basic_publish(  # type: ignore[call-arg]  # the abstract class has no ``wait``
                    body,
                    exchange=EXCHANGE,
                    routing_key=change.type,
                    properties=properties,
                    mandatory=True,
                    timeout=CONFIRM_TIMEOUT,
                    wait=False,  # no wait for the end of the write: the call waits for the later confirm
                )
        except Unroutable:
            if not self._queues:
                return False
            self._unroutable.set()
            raise
        except BrokerUnavailable:
            self._leave(channel)
            raise
        return True

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Connect, and raise BrokerUnavailable once the connection or its channel ends.

        The first run reports its start after the attempt to connect, even if it failed: without a broker the service
        works, and changes wait in the outbox. Later runs report their start once connected. The caller decides on
        repetition.
        """
        first, self._tried, opened = not self._tried, True, False
        try:
            async with open_connection(self._url) as connection:
                await prepare(connection, self._queues)
                with translate_errors(), anyio.fail_after(CONNECT_TIMEOUT):
                    channel = await connection.channel()
                opened = True
                await self._wait_until_closed(connection, channel, task_status)
        except BrokerUnavailable as error:
            refused = BrokerState(f"{error.part}_refused") if isinstance(error, BrokerRefused) else None
            self.state = refused or BrokerState.UNREACHABLE
            if first and not opened:
                task_status.started()
            raise
        finally:
            self._leave(self._channel)

    def _leave(self, channel: AbstractChannel | None) -> None:
        """Stop publishing on the channel, and end the run that uses the channel; later calls have no effect."""
        if channel is not None and channel is self._channel:
            self._channel, self.state = None, BrokerState.UNREACHABLE
            self._ended.set()

    async def _wait_until_closed(
        self, connection: aiormq.Connection, channel: AbstractChannel, task_status: TaskStatus[None]
    ) -> None:
        self._ended = ended = anyio.Event()
        for endpoint in (connection, channel):
            endpoint.closing.add_done_callback(lambda _: self._leave(channel))
        self._channel, self.state = channel, BrokerState.CONNECTED
        task_status.started()
        refusals: list[BrokerUnavailable] = []
        async with anyio.create_task_group() as group:
            group.start_soon(self._prepare_again, connection, channel, refusals)
            await ended.wait()
            group.cancel_scope.cancel()
        for endpoint in (channel, connection):
            if endpoint.is_closed:
                raise connection_lost(endpoint.closing.exception())
        raise refusals[0] if refusals else connection_lost(TimeoutError())  # a confirm timed out

    async def _prepare_again(
        self, connection: aiormq.Connection, channel: AbstractChannel, refusals: list[BrokerUnavailable]
    ) -> None:
        """Prepare the queues after unroutable events, because one may be missing. If that fails, end the run."""
        while not refusals:
            self._unroutable = anyio.Event()
            await self._unroutable.wait()
            try:
                await prepare(connection, self._queues)
            except BrokerUnavailable as error:
                refusals.append(error)
                self._leave(channel)
            await anyio.sleep(RECHECK_SECONDS)


def _to_properties(change: Change) -> aiormq.spec.Basic.Properties:
    return aiormq.spec.Basic.Properties(
        content_type=CONTENT_TYPE,
        delivery_mode=PERSISTENT_DELIVERY,
        message_id=change.id,
        timestamp=change.recorded_at,
        message_type=change.type,
    )
