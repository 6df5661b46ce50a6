"""Try of a broker that is away; of a real one: ``tests/integration/test_rabbitmq_topology.py``."""

import anyio
import pytest
from anyio.abc import SocketAttribute

from bg_ingest.adapters.rabbitmq.topology import EventQueue, try_broker
from bg_ingest.errors import BrokerUnavailable

PASSWORD = "not-for-logs"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_broker_that_is_away_is_reported_without_the_password() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's method
    with pytest.raises(BrokerUnavailable, match="Connect call failed") as raised:
        await try_broker(f"amqp://someone:{PASSWORD}@127.0.0.1:{port}/", ())
    assert PASSWORD not in f"{raised.value}{raised.value.__cause__}"


def test_only_a_queue_with_an_age_is_declared_as_a_stream() -> None:
    assert EventQueue("events").arguments is None
    assert EventQueue("events", "2D").arguments == {"x-queue-type": "stream", "x-max-age": "2D"}
