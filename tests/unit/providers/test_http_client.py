"""The shared HTTP client: limited answers, and connections."""

import gzip
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import anyio
import httpx
import pytest

from bg_ingest.errors import ProviderMisbehaved, ProviderUnavailable
from bg_ingest.providers import http_client as http_client_module
from bg_ingest.providers.http import translate_transport_errors
from bg_ingest.providers.http_client import MAX_ANSWER_BYTES, AnswerTooLarge, http_client
from tests.harness.tls_server import TlsServer, write_certificate


async def test_no_user_gets_the_cookie_of_another() -> None:
    cookies: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("cookie"))
        return httpx.Response(200, headers={"set-cookie": "session=of-one-user"})

    async with http_client(httpx.MockTransport(answer)) as http:
        await http.get("https://api.test/")
        await http.get("https://api.test/")
    assert cookies == [None, None]


async def test_no_redirect_is_followed() -> None:
    called: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        called.append(request.url)
        return httpx.Response(307, headers={"location": "https://other.test/"})

    async with http_client(httpx.MockTransport(answer)) as http:
        assert (await http.get("https://api.test/")).status_code == 307
        assert (await http.post("https://api.test/", data={"code": "of-one-user"})).status_code == 307
    assert {url.host for url in called} == {"api.test"}


def bomb() -> Iterator[bytes]:
    """Yield 100 MB of zeros as 0.4 MB of gzip."""
    packing = zlib.compressobj(1, wbits=31)
    yield from filter(None, (packing.compress(bytes(1_000_000)) for _ in range(100)))
    yield packing.flush()


BOMB = b"".join(bomb())


class Endless(httpx.AsyncByteStream):
    """Body of the same piece again and again; counts the pieces that were received."""

    def __init__(self, piece: bytes, first: bytes = b"") -> None:
        self.piece = piece
        self._first = first
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        while True:
            self.sent += 1
            yield self.piece


async def receive(stream: httpx.AsyncByteStream, **headers: str) -> httpx.Response:
    answer = httpx.Response(200, headers=headers, stream=stream)
    async with http_client(httpx.MockTransport(lambda _: answer)) as http:
        with translate_transport_errors(timedelta(minutes=1)):
            return await http.get("https://api.test/")


GZIP = {"content-encoding": "gzip"}


class Pieces(httpx.AsyncByteStream):
    def __init__(self, content: bytes, size: int = 65_536) -> None:
        self.pieces = [content[start : start + size] for start in range(0, len(content), size)]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


async def test_s3_a_packed_answer_is_unpacked() -> None:
    content = b'{"records":[]}' * 20_000
    answer = await receive(Pieces(gzip.compress(content), 100), **GZIP)
    assert answer.content == content


@pytest.mark.parametrize("size", [MAX_ANSWER_BYTES, MAX_ANSWER_BYTES + 1])
@pytest.mark.parametrize("packed", [False, True])
async def test_s3_an_answer_has_8_mb_at_most_after_unpacking(size: int, *, packed: bool) -> None:
    content = bytes(size)
    stream, headers = Pieces(gzip.compress(content, 1) if packed else content), GZIP if packed else {}
    if size <= MAX_ANSWER_BYTES:
        assert len((await receive(stream, **headers)).content) == size
    else:
        with pytest.raises(ProviderMisbehaved, match="AnswerTooLarge"):
            await receive(stream, **headers)


@pytest.mark.parametrize("size", [1_000, 65_536, len(BOMB)])
async def test_s3_a_bomb_takes_little_memory_and_time(size: int) -> None:
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises(ProviderMisbehaved, match="AnswerTooLarge"):
            await receive(Pieces(BOMB, size), **GZIP)
        assert time.perf_counter() - started < 0.2
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_ANSWER_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("stream", "headers"),
    [
        (Endless(bytes(65_536)), {}),
        (Endless(b"file name " * 6_000, gzip.compress(b"")[:3] + b"\x08" + bytes(6)), GZIP),  # unpacks to nothing
    ],
)
async def test_s3_an_endless_answer_is_left(stream: Endless, headers: dict[str, str]) -> None:
    with pytest.raises(ProviderMisbehaved):
        await receive(stream, **headers)
    assert stream.sent <= MAX_ANSWER_BYTES // len(stream.piece) + 1


async def test_s3_a_slow_answer_ends_at_the_deadline() -> None:
    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await anyio.sleep(10)
                yield b" "

    with pytest.raises(ProviderUnavailable, match="60 seconds"):
        await receive(Slow())


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "no-such"])
async def test_s3_another_encoding_than_the_requested_one_is_misbehaviour(encoding: str) -> None:
    with pytest.raises(ProviderMisbehaved):
        await receive(Pieces(BOMB), **{"content-encoding": encoding})


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"cut off", mtime=0)[:-4]])
async def test_s3_a_broken_packing_is_misbehaviour(content: bytes) -> None:
    with pytest.raises(ProviderMisbehaved):
        await receive(Pieces(content), **GZIP)


async def test_s3_an_answer_without_a_body_has_nothing_to_unpack() -> None:
    assert (await receive(Pieces(b""), **GZIP)).content == b""


class TestOnASocket:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    async def address(self) -> AsyncIterator[str]:
        """A server that answers every request on a connection, as long as the client keeps it."""
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n"

        async def serve(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                self.connections += 1
                while True:
                    try:
                        await stream.receive()
                    except (anyio.EndOfStream, anyio.BrokenResourceError):
                        return
                    await stream.send(answer + str(self.connections).encode())

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.connections = 0
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
            yield f"http://127.0.0.1:{port}"
            tasks.cancel_scope.cancel()

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
    async def test_loopback_is_reached_past_a_proxy(
        self, address: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        async with http_client() as http:
            assert (await http.get(address)).status_code == 200


class TestKeptConnections:
    """Against a real server over TLS."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    async def server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TlsServer]:
        write_certificate(tmp_path / "own.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
        async with TlsServer(tmp_path / "own.pem").running() as server:
            yield server

    async def test_data_calls_share_a_connection(self, server: TlsServer) -> None:
        async with http_client() as http:
            answers = [(await http.get(server.url)).text for _ in range(3)]
        assert answers == ["1", "1", "1"]

    async def test_each_token_request_has_a_connection_of_its_own(self, server: TlsServer) -> None:
        async with http_client() as http:
            await http.get(server.url)
            answers = [(await http.post(server.url, content=b"refresh")).text for _ in range(2)]
            assert answers == ["2", "3"]
            assert (await http.get(server.url)).text == "1"

    async def test_a_call_after_the_server_closed_an_idle_connection_succeeds(self, server: TlsServer) -> None:
        server.idle_seconds = 0.02
        async with http_client() as http:
            await http.get(server.url)
            await anyio.sleep(0.1)
            assert (await http.get(server.url)).text == "2"
        assert len(server.requests) == 2

    async def test_a_read_lost_on_a_kept_connection_is_sent_once_more_on_a_new_one(self, server: TlsServer) -> None:
        server.dropped = {2}
        async with http_client() as http:
            async with anyio.create_task_group() as group:  # two kept connections
                group.start_soon(http.get, server.url)
                group.start_soon(http.get, server.url)
            assert (await http.get(server.url)).text == "3"
        assert len(server.requests) == 4

    async def test_a_read_lost_twice_fails(self, server: TlsServer) -> None:
        server.dropped = {1, 2}
        async with http_client() as http:
            await http.get(server.url)
            with pytest.raises(ProviderUnavailable), translate_transport_errors(timedelta(seconds=30)):
                await http.get(server.url)
        assert [connection for connection, _ in server.requests] == [1, 1, 2]

    async def test_a_read_lost_on_a_new_connection_is_not_repeated(self, server: TlsServer) -> None:
        server.dropped = {0}
        async with http_client() as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(server.url)
        assert server.requests == [(1, "GET")]

    async def test_a_lost_token_request_is_never_repeated(self, server: TlsServer) -> None:
        server.dropped = {1}
        async with http_client() as http:
            await http.get(server.url)
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post(server.url, content=b"refresh")
        assert server.requests == [(1, "GET"), (2, "POST")]

    async def test_an_idle_connection_is_closed_before_usual_servers_close_it(
        self, server: TlsServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert http_client_module.KEEP_ALIVE_SECONDS < 5
        monkeypatch.setattr(http_client_module, "KEEP_ALIVE_SECONDS", 0.02)
        async with http_client() as http:
            await http.get(server.url)
            await anyio.sleep(0.05)
            assert (await http.get(server.url)).text == "2"

    async def test_the_rest_of_a_too_large_answer_is_no_part_of_the_next(
        self, server: TlsServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with http_client() as http:
            with monkeypatch.context() as patch:
                patch.setattr(http_client_module, "MAX_ANSWER_BYTES", 0)
                with pytest.raises(AnswerTooLarge):
                    await http.get(server.url)
            assert (await http.get(server.url)).text in {"1", "2"}

    async def test_idle_connections_are_bounded(self, server: TlsServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_client_module, "MAX_KEPT_CONNECTIONS", 2)
        async with http_client() as http:
            for _ in range(2):
                async with anyio.create_task_group() as group:
                    for _ in range(5):
                        group.start_soon(http.get, server.url)
        assert server.connections == 8
