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

REQUEST_SECONDS = 200.0
"""Seconds for which a request is valid. Repetitions are at most 100 s apart, so that one of them may be lost."""

REPEAT_SECONDS = 30.0
"""Seconds until a request is sent again, however many streams begin."""

REQUEST_TIMEOUT = 1.0
"""Longest wait, in seconds, until a request has come back to its sender, which is about when the others receive it."""


class HintRequest(msgspec.Struct, frozen=True):
    """Message by which a replica requests hints from the others."""

    requested_by: str
    """Queue of the replica."""


_message_decoder = msgspec.json.Decoder(list[Hint] | HintRequest)


class RabbitHints:
    """Implements ``ChangeHints``. A commit only adds its hint to a buffer, which the actor sends in lists.

    Each replica has an exclusive queue that ends with its connection. While a replica is not connected, it receives no
    hints, and its own hints are dropped. Requests use the same exchange. A replica that connects may have missed some,
    and therefore sends hints without a request at first.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._channel: AbstractChannel | None = None
        self._queue = ""
        self._unsent, self._received = HintBuffer(), HintBuffer()
        self._send_until = self._request_until = self._repeat_at = 0.0
        self._request_arrived = anyio.Event()
        self._tried = False

    @property
    def connected(self) -> bool:
        return self._channel is not None

    async def request(self) -> None:
        now = anyio.current_time()
        self._request_until = now + REQUEST_SECONDS
        if self._channel is not None:
            with anyio.move_on_after(REQUEST_TIMEOUT):
                if now >= self._repeat_at:
                    await self._send_request(self._channel)
                await self._request_arrived.wait()

    def send(self, hint: Hint) -> None:
        if self._channel is not None and anyio.current_time() < self._send_until:
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
                channel, first, now = await self._subscribe(connection), False, anyio.current_time()
                self._channel, self._send_until, self._repeat_at = channel, now + REQUEST_SECONDS, now
                task_status.started()
                if now < self._request_until:
                    await self._send_request(channel)
                await self._send_until_closed(connection, channel)
        except BrokerUnavailable:
            if first:
                task_status.started()
            raise
        finally:
            self._channel = None

    async def _subscribe(self, connection: aiormq.Connection) -> AbstractChannel:
        subject = f"the exchange {HINT_EXCHANGE}"
        with translate_errors(), name_refusals("hints", subject), anyio.fail_after(CONNECT_TIMEOUT):
            channel = await connection.channel(publisher_confirms=False)
            await channel.exchange_declare(HINT_EXCHANGE, exchange_type="fanout")
            limit: ArgumentsType = {"x-max-length": MAX_HINTED_USERS}
            declared = await channel.queue_declare(exclusive=True, auto_delete=True, arguments=limit)
            self._queue = declared.queue or ""
            await channel.queue_bind(self._queue, HINT_EXCHANGE)
            await channel.basic_consume(self._queue, self._receive, no_ack=True)
        return channel

    async def _send_request(self, channel: AbstractChannel) -> None:
        """Send a request. The next calls wait for its arrival instead of sending another, so it is not cancelled."""
        self._repeat_at = anyio.current_time() + REPEAT_SECONDS
        self._request_arrived = anyio.Event()
        body = msgspec.json.encode(HintRequest(self._queue))
        # after a lost connection, the request is sent on the next one
        with suppress(BrokerUnavailable), anyio.move_on_after(REQUEST_TIMEOUT, shield=True), translate_errors():
            await channel.basic_publish(body, exchange=HINT_EXCHANGE)

    async def _receive(self, delivery: DeliveredMessage) -> None:
        with suppress(msgspec.DecodeError):  # sent by another program
            message = _message_decoder.decode(delivery.body)
            if isinstance(message, HintRequest):
                self._accept(message)
            else:
                for hint in message:
                    self._received.put(hint)

    def _accept(self, request: HintRequest) -> None:
        if request.requested_by == self._queue:
            self._request_arrived.set()
        else:
            self._send_until = anyio.current_time() + REQUEST_SECONDS

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
