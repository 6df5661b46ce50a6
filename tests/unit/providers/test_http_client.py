"""The HTTP client for all calls except data reads: limited answers, and a connection for each request."""

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
from bg_ingest.providers.bounded_body import MAX_ANSWER_BYTES
from bg_ingest.providers.http import translate_transport_errors
from bg_ingest.providers.http_client import http_client
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


async def test_a_connect_takes_5_seconds_at_most_and_the_next_bytes_60() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200)

    async with http_client(httpx.MockTransport(answer)) as http:
        await http.get("https://api.test/")
    assert requests[0].extensions["timeout"] == {"connect": 5, "read": 60, "write": 60, "pool": 60}


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

    @pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
    async def test_loopback_is_reached_past_a_proxy(
        self, server: TlsServer, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        async with http_client() as http:
            assert (await http.get(server.url)).status_code == 200

    async def test_each_token_request_has_a_connection_of_its_own(self, server: TlsServer) -> None:
        async with http_client() as http:
            answers = [(await http.post(server.url, content=b"refresh")).text for _ in range(3)]
        assert answers == ["1", "2", "3"]

    async def test_a_lost_token_request_is_never_repeated(self, server: TlsServer) -> None:
        server.dropped = {1}
        async with http_client() as http:
            await http.post(server.url, content=b"refresh")
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post(server.url, content=b"refresh")
        assert server.requests == [(1, "POST"), (2, "POST")]
