"""Client for data reads, and plain servers and a certificate for its tests."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from bg_ingest.providers.data_client import open_data_client
from bg_ingest.providers.http import DataClient, HttpAnswer, translate_transport_errors
from tests.harness.tls_server import ENDED, write_certificate

SECRETS = {"authorization": "Bearer of-one-user"}
QUERY = {"startDate": "2026-03-02T06:00:00"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tls") / "own.pem"
    write_certificate(file)
    return file


@pytest.fixture(autouse=True)
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the own certificate alone, which also saves the 35 ms of loading all others."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


async def get(client: DataClient, url: str, seconds: float = 30) -> HttpAnswer:
    with translate_transport_errors(timedelta(seconds=seconds)):
        return await client.get(url, params=QUERY, headers=SECRETS)


async def number(client: DataClient, url: str) -> int:
    """Return the number of the connection, which the servers answer."""
    return int((await get(client, url)).content)


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class PlainServer:
    """Sends ``script`` for each request; without a script, the number of the connection. Serves as a proxy too."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[bytes] = []
        self.connections = 0
        self.script: Callable[[SocketStream], Awaitable[None]] | bytes | None = None
        self.is_closing = False
        """The server closes a connection after the script."""

    async def serve(self, stream: SocketStream) -> None:
        self.connections += 1
        own = answer(str(self.connections).encode())
        async with stream:
            with suppress(*ENDED):
                while True:
                    self.requests.append(await stream.receive())
                    if callable(self.script):
                        await self.script(stream)
                    else:
                        await stream.send(own if self.script is None else self.script)
                    if self.is_closing:
                        return


@pytest.fixture
async def plain() -> AsyncIterator[PlainServer]:
    server = PlainServer()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        server.url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"  # noqa: S610 - not Django's
        yield server
        tasks.cancel_scope.cancel()


@pytest.fixture
async def client() -> AsyncIterator[DataClient]:
    async with open_data_client() as client:
        yield client
