"""Publisher of a broker that is unreachable, silent, not speaking AMQP, or without a trusted certificate."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute, TaskStatus
from anyio.streams.tls import TLSListener
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bg_ingest.adapters.rabbitmq import topology
from bg_ingest.adapters.rabbitmq.publisher import RabbitPublisher
from bg_ingest.domain.changes import Change, ConnectionChanged
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.replica_status import BrokerState
from bg_ingest.errors import BrokerUnavailable

CHANGE = Change(
    UserId("ada"), 1, datetime(2026, 3, 2, tzinfo=UTC), ConnectionChanged("acme", ConnectionState.ACTIVE, None)
)
PASSWORD = "not-for-logs"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Start(TaskStatus[None]):
    """Counts the reports of an actor's start."""

    def __init__(self) -> None:
        self.times = 0

    def started(self, value: None = None) -> None:
        self.times += 1


def of(port: int, *, scheme: str = "amqp", query: str = "") -> RabbitPublisher:
    return RabbitPublisher(f"{scheme}://someone:{PASSWORD}@127.0.0.1:{port}/{query}", "/test")


@asynccontextmanager
async def peer(
    answer: Callable[[ByteStream], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Listen, and answer each connection; yield the port."""

    async def met(stream: ByteStream) -> None:
        async with stream:
            await answer(stream)

    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with plain, anyio.create_task_group() as group:
        listener = TLSListener(plain, tls, standard_compatible=False) if tls else plain
        group.start_soon(listener.serve, met)
        yield plain.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's method
        group.cancel_scope.cancel()


async def silence(stream: ByteStream) -> None:
    await anyio.sleep_forever()


async def goodbye(stream: ByteStream) -> None:
    await stream.receive()


async def nonsense(stream: ByteStream) -> None:
    await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def test_without_a_connection_an_event_waits_at_once() -> None:
    with pytest.raises(BrokerUnavailable, match="not connected"):
        await of(1).publish(CHANGE)


async def test_the_first_run_starts_without_a_broker_and_the_next_ones_only_with_one() -> None:
    async with peer(goodbye) as port:
        pass
    publisher, start = of(port), Start()
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match="Connect call failed"):
            await publisher(task_status=start)
        assert start.times == 1
    assert publisher.state is not BrokerState.CONNECTED


@pytest.mark.slow
@pytest.mark.parametrize("answer", [silence, goodbye, nonsense])
async def test_a_peer_that_is_no_broker_is_given_up(
    answer: Callable[[ByteStream], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "CONNECT_TIMEOUT", 0.2)
    async with peer(answer) as port:
        with anyio.fail_after(5), pytest.raises(BrokerUnavailable) as gone:
            await of(port)()
    assert PASSWORD not in f"{gone.value}{gone.value.__cause__}"
    assert gone.value.__suppress_context__


async def test_it_can_be_cancelled_while_it_connects() -> None:
    async with peer(silence) as port:
        with anyio.move_on_after(0.1) as patience:
            await of(port)()
    assert patience.cancelled_caught


async def test_a_broker_with_a_strangers_certificate_receives_nothing(tmp_path: Path) -> None:
    received: list[bytes] = []

    async def listen(stream: ByteStream) -> None:
        received.append(await stream.receive())

    tls = certified(tmp_path)
    async with peer(listen, tls) as port:
        with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await of(port, scheme="amqps")()
        assert received == []
        with pytest.raises(BrokerUnavailable):
            await of(port, scheme="amqps", query=f"?cafile={tmp_path / 'certificate.pem'}")()
    assert received == [b"AMQP\x00\x00\x09\x01"]


def certified(folder: Path) -> ssl.SSLContext:
    """Return the TLS context of a server at 127.0.0.1 with a self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)  # noqa: TID251 - certificates are checked against the real time
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(secret)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context
