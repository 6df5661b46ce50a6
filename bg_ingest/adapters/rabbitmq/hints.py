"""Hints between replicas over a transient fanout exchange, and at the same time the actor that holds the connection."""

from contextlib import suppress

import aiormq
import anyio
import msgspec
from aiormq.abc import AbstractChannel, ArgumentsType, DeliveredMessage
from anyio.abc import TaskStatus

from bg_ingest.adapters.hint_buffer import MAX_HINTED_USERS, HintBuffer
from bg_ingest.adapters.rabbitmq.errors import connection_lost, name_refusals, translate_errors
from bg_ingest.adapters.rabbitmq.topology import CONNECT_TIMEOUT, open_connection
from bg_ingest.errors import BrokerUnavailable
from bg_ingest.ports import Hint

HINT_EXCHANGE = "bg.hints"

SEND_INTERVAL_SECONDS = 0.02
"""Shortest time between two messages. All hints of this time share one message. At 100 webhooks per second, a message
per commit took a tenth of the CPU time of each webhook."""

SEND_TIMEOUT = 10.0
"""Seconds. A broker without free memory stops reading."""


class RabbitHints:
    """Implements ``ChangeHints``. A commit only adds its hint to a buffer, which the actor sends in lists.

    Each replica has an exclusive queue that ends with its connection. While a replica is not connected, it receives no
    hints, and its own hints are dropped.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_connected = False
        self._unsent, self._received = HintBuffer(), HintBuffer()
        self._tried = False

    @property
    def connected(self) -> bool:
        return self._is_connected

    def send(self, hint: Hint) -> None:
        if self._is_connected:
            self._unsent.put(hint)

    async def receive(self) -> Hint:
        return await self._received.get()

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Connect, send the hints, and raise BrokerUnavailable once the connection ends.

        As in the publisher, the first run reports its start even if the attempt to connect fails.
        """
        first, self._tried = not self._tried, True
        try:
            async with open_connection(self._url) as connection:
                channel = await self._subscribe(connection)
                self._is_connected, first = True, False
                task_status.started()
                await self._send_until_closed(connection, channel)
        except BrokerUnavailable:
            if first:
                task_status.started()
            raise
        finally:
            self._is_connected = False

    async def _subscribe(self, connection: aiormq.Connection) -> AbstractChannel:
        subject = f"the exchange {HINT_EXCHANGE}"
        with translate_errors(), name_refusals("hints", subject), anyio.fail_after(CONNECT_TIMEOUT):
            channel = await connection.channel(publisher_confirms=False)
            await channel.exchange_declare(HINT_EXCHANGE, exchange_type="fanout")
            limit: ArgumentsType = {"x-max-length": MAX_HINTED_USERS}
            declared = await channel.queue_declare(exclusive=True, auto_delete=True, arguments=limit)
            queue = declared.queue or ""
            await channel.queue_bind(queue, HINT_EXCHANGE)
            await channel.basic_consume(queue, self._add_received, no_ack=True)
        return channel

    async def _add_received(self, delivery: DeliveredMessage) -> None:
        with suppress(msgspec.DecodeError):  # sent by another program
            for hint in msgspec.json.decode(delivery.body, type=list[Hint]):
                self._received.put(hint)

    async def _send_until_closed(self, connection: aiormq.Connection, channel: AbstractChannel) -> None:
        ended = anyio.Event()
        for endpoint in (connection, channel):
            endpoint.closing.add_done_callback(lambda _: ended.set())
        async with anyio.create_task_group() as group:
            group.start_soon(self._send_all, channel, ended)
            await ended.wait()
            group.cancel_scope.cancel()
        for endpoint in (channel, connection):
            if endpoint.is_closed:
                raise connection_lost(endpoint.closing.exception())
        raise connection_lost(TimeoutError())

    async def _send_all(self, channel: AbstractChannel, ended: anyio.Event) -> None:
        with suppress(BrokerUnavailable):
            while True:
                body = msgspec.json.encode(await self._unsent.get_all())
                with translate_errors():
                    await channel.basic_publish(body, exchange=HINT_EXCHANGE, timeout=SEND_TIMEOUT)
                await anyio.sleep(SEND_INTERVAL_SECONDS)
        ended.set()
