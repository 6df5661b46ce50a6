"""The HTTP client for data reads, against real servers: requests, limited answers, kept connections."""

import gzip
import socket
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from bg_ingest.errors import ProviderMisbehaved, ProviderUnavailable
from bg_ingest.providers import bounded_body, data_client
from bg_ingest.providers.bounded_body import MAX_ANSWER_BYTES
from bg_ingest.providers.data_client import open_data_client
from bg_ingest.providers.http import DataClient
from tests.harness.data_reads import PlainServer, answer, get, number
from tests.harness.data_reads import anyio_backend as anyio_backend  # noqa: PLC0414 - fixtures
from tests.harness.data_reads import certificate as certificate  # noqa: PLC0414 - fixtures
from tests.harness.data_reads import client as client  # noqa: PLC0414 - fixtures
from tests.harness.data_reads import plain as plain  # noqa: PLC0414 - fixtures
from tests.harness.data_reads import trusted as trusted  # noqa: PLC0414 - fixtures
from tests.harness.tls_server import TlsServer


class TestRequests:
    async def test_a_request_names_us_and_asks_for_json_in_gzip(self, plain: PlainServer, client: DataClient) -> None:
        await get(client, f"{plain.url}/v3/egvs")
        first, *lines = plain.requests[0].decode().lower().split("\r\n")
        assert first.startswith("get /v3/egvs?startdate=2026-03-02t06")
        assert {"accept: application/json", "accept-encoding: gzip", "user-agent: bg-ingest"} < set(lines)
        assert "authorization: bearer of-one-user" in lines

    async def test_no_user_gets_the_cookie_of_another(self, plain: PlainServer, client: DataClient) -> None:
        plain.script = answer(b"", "set-cookie: session=of-one-user")
        for _ in range(2):
            await get(client, plain.url)
        assert b"of-one-user" in plain.requests[1]  # the token
        assert b"session" not in plain.requests[1]

    async def test_no_redirect_is_followed(self, plain: PlainServer, client: DataClient) -> None:
        plain.script = answer(b"", "Location: /elsewhere", status="307 Elsewhere")
        redirect = await get(client, plain.url)
        assert (redirect.status_code, redirect.headers["location"]) == (307, "/elsewhere")
        assert len(plain.requests) == 1


class TestContents:
    async def test_s3_a_packed_answer_is_unpacked(self, plain: PlainServer, client: DataClient) -> None:
        content = b'{"records":[]}' * 20_000
        plain.script = answer(gzip.compress(content), "content-encoding: gzip")
        assert (await get(client, plain.url)).content == content

    async def test_s3_a_bomb_is_left(self, plain: PlainServer, client: DataClient) -> None:
        packing = zlib.compressobj(1, wbits=31)
        zeros = packing.compress(bytes(3 * MAX_ANSWER_BYTES)) + packing.flush()
        plain.script = answer(zeros, "content-encoding: gzip")
        with pytest.raises(ProviderMisbehaved, match="AnswerTooLarge"):
            await get(client, plain.url)

    async def test_s3_an_endless_answer_is_left(self, plain: PlainServer, client: DataClient) -> None:
        async def send(stream: SocketStream) -> None:
            await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                await stream.send(bytes(1_048_576))

        plain.script = send
        with pytest.raises(ProviderMisbehaved, match="AnswerTooLarge"):
            await get(client, plain.url)

    @pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "no-such"])
    async def test_s3_another_encoding_than_the_requested_one_is_misbehaviour(
        self, plain: PlainServer, client: DataClient, encoding: str
    ) -> None:
        plain.script = answer(zlib.compress(b"{}"), f"content-encoding: {encoding}")
        with pytest.raises(ProviderMisbehaved):
            await get(client, plain.url)

    @pytest.mark.parametrize(
        "incomplete",
        [
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno size\r\n{}\r\n0\r\n\r\n",
        ],
    )
    async def test_an_incomplete_answer_is_none(
        self, plain: PlainServer, client: DataClient, incomplete: bytes
    ) -> None:
        plain.script, plain.is_closing = incomplete, True
        with pytest.raises(ProviderUnavailable, match="No answer: Client"):
            await get(client, plain.url)
        assert len(plain.requests) == 1


class TestKeptConnections:
    @pytest.fixture
    async def server(self, certificate: Path) -> AsyncIterator[TlsServer]:
        async with TlsServer(certificate).running() as server:
            yield server

    async def test_data_calls_share_a_connection(self, server: TlsServer, client: DataClient) -> None:
        assert [await number(client, server.url) for _ in range(3)] == [1, 1, 1]

    async def test_a_call_after_the_server_closed_an_idle_connection_succeeds(
        self, server: TlsServer, client: DataClient
    ) -> None:
        server.idle_seconds = 0.02
        await number(client, server.url)
        await anyio.sleep(0.1)
        assert await number(client, server.url) == 2
        assert len(server.requests) == 2

    async def test_a_read_lost_on_a_kept_connection_is_sent_once_more(
        self, server: TlsServer, client: DataClient
    ) -> None:
        server.dropped = {1}
        assert [await number(client, server.url) for _ in range(2)] == [1, 2]
        assert [connection for connection, _ in server.requests] == [1, 1, 2]

    async def test_a_read_lost_on_a_new_connection_is_sent_once_more(
        self, server: TlsServer, client: DataClient
    ) -> None:
        server.dropped = {0}
        assert await number(client, server.url) == 2

    async def test_a_read_lost_twice_fails(self, server: TlsServer, client: DataClient) -> None:
        server.dropped = {1, 2}
        await number(client, server.url)
        with pytest.raises(ProviderUnavailable, match="ServerDisconnectedError"):
            await number(client, server.url)
        assert [connection for connection, _ in server.requests] == [1, 1, 2]

    async def test_a_read_lost_by_a_reset_is_sent_once_more(self, plain: PlainServer, client: DataClient) -> None:
        async def reset(stream: SocketStream) -> None:
            plain.script = None
            raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - not Django's
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await stream.aclose()

        await number(client, plain.url)
        plain.script = reset
        assert await number(client, plain.url) == 2
        assert len(plain.requests) == 3

    async def test_an_idle_connection_is_closed_before_usual_servers_close_it(
        self, server: TlsServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert data_client.KEEP_ALIVE_SECONDS < 5
        monkeypatch.setattr(data_client, "KEEP_ALIVE_SECONDS", 0.02)
        async with open_data_client() as client:
            await number(client, server.url)
            await anyio.sleep(0.05)
            assert await number(client, server.url) == 2

    async def test_connections_are_bounded(self, server: TlsServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(data_client, "MAX_CONNECTIONS", 2)
        async with open_data_client() as client, anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(number, client, server.url)
        assert (server.connections, len(server.requests)) == (2, 5)

    async def test_the_rest_of_a_too_large_answer_is_no_part_of_the_next(
        self, server: TlsServer, client: DataClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(bounded_body, "MAX_ANSWER_BYTES", 0)
            with pytest.raises(ProviderMisbehaved, match="AnswerTooLarge"):
                await number(client, server.url)
        assert await number(client, server.url) in {1, 2}

    async def test_the_rest_of_a_late_answer_is_no_part_of_the_next(
        self, plain: PlainServer, client: DataClient
    ) -> None:
        plain.script = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n1"
        with pytest.raises(ProviderUnavailable, match=r"within 0\.05 seconds"):
            await get(client, plain.url, seconds=0.05)
        plain.script = None
        assert await number(client, plain.url) == 2

    async def test_an_answer_without_a_request_is_none_to_the_next(
        self, plain: PlainServer, client: DataClient
    ) -> None:
        sent = anyio.Event()

        async def send_two(stream: SocketStream) -> None:
            await stream.send(answer(b"1"))
            await anyio.sleep(0.02)
            plain.script = None
            await stream.send(answer(b"", status="401 Unauthorized"))
            sent.set()

        plain.script = send_two
        assert await number(client, plain.url) == 1
        await sent.wait()
        await anyio.sleep(0.02)
        assert await number(client, plain.url) == 2
