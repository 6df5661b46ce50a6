"""The shared HTTP client, its transport errors, and ``Retry-After``."""

import gzip
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from email.utils import format_datetime

import anyio
import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.errors import ProviderMisbehaved, ProviderUnavailable
from bg_ingest.providers.http import (
    MAX_ANSWER_BYTES,
    ProviderClock,
    decode_json,
    http_client,
    parse_retry_after,
    translate_transport_errors,
)
from tests.fakes.clock import NOON, SetClock


class Shape(msgspec.Struct):
    number: int


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("86400", 3600),
        ("9" * 4000, 3600),
        ("9" * 5000, None),
        (format_datetime(NOON + timedelta(seconds=90), usegmt=True), 90),
        ("Mon, 02 Mar 2026 12:01:30 -0000", 90),
        ("Mon, 02 Mar 2026 13:01:30 +0100", 90),
        (format_datetime(NOON - timedelta(days=1), usegmt=True), 0),
        (format_datetime(NOON + timedelta(days=400), usegmt=True), 3600),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("", None),
    ],
)
def test_case_36_retry_after_is_seconds_or_a_date_and_an_hour_at_most(header: str, wait: int | None) -> None:
    found = parse_retry_after(httpx.Headers({"retry-after": header}), NOON)
    assert found == (None if wait is None else timedelta(seconds=wait))


def test_case_36_no_retry_after_is_no_stated_wait() -> None:
    assert parse_retry_after(httpx.Headers(), NOON) is None


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("EOF"),
        httpx.PoolTimeout("full"),
    ],
)
async def test_case_38_no_answer_is_unavailable_and_says_only_the_kind(failure: httpx.TransportError) -> None:
    with (
        pytest.raises(ProviderUnavailable, match=type(failure).__name__) as raised,
        translate_transport_errors(timedelta(seconds=1)),
    ):
        raise failure
    assert str(failure) not in str(raised.value)
    assert raised.value.__suppress_context__  # its cause holds the request


async def test_case_38_a_call_that_takes_too_long_as_a_whole_is_unavailable() -> None:
    with pytest.raises(ProviderUnavailable, match="30 seconds"), translate_transport_errors(timedelta(seconds=30)):
        await anyio.sleep(31)


async def test_an_answer_that_cannot_be_decompressed_is_misbehaviour() -> None:
    with pytest.raises(ProviderMisbehaved, match="DecodingError"), translate_transport_errors(timedelta(seconds=1)):
        raise httpx.DecodingError("no gzip")


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"[1]", b'{"number":"one"}', b'{"number":', b'{"new":' + b"[" * 100_000, b"\xff"]
)
def test_case_22_what_is_not_the_shape_is_misbehaviour(content: bytes) -> None:
    with pytest.raises(ProviderMisbehaved, match="no Shape"):
        decode_json(content, Shape)
    assert decode_json(b'{"number":1,"new":[]}', Shape) == Shape(1)


async def test_no_user_gets_the_cookie_of_another() -> None:
    cookies: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("cookie"))
        return httpx.Response(200, headers={"set-cookie": "session=of-one-user"})

    async with http_client(httpx.MockTransport(answer)) as http:
        await http.get("https://api.test/")
        await http.get("https://api.test/")
    assert cookies == [None, None]


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

    async def test_a_call_never_goes_out_on_a_used_connection(self, address: str) -> None:
        async with http_client() as http:
            answers = [(await http.get(address)).text for _ in range(3)]
        assert answers == ["1", "2", "3"]

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
    async def test_loopback_is_reached_past_a_proxy(
        self, address: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        async with http_client() as http:
            assert (await http.get(address)).status_code == 200


class TruthfulProvider:
    """A provider whose clock is ahead of ours by a fixed time, and our view of it."""

    def __init__(self, ahead: float) -> None:
        self.ahead = timedelta(seconds=ahead)
        self.clock = SetClock()
        self.view = ProviderClock(self.clock)

    def answer(self, takes: float = 0.0, **headers: str) -> None:
        """Answer a request; the time is stated half-way."""
        sent = self.clock.now()
        self.clock.advance(timedelta(seconds=takes / 2))
        date = format_datetime(self.clock.now() + self.ahead, usegmt=True)
        self.clock.advance(timedelta(seconds=takes / 2))
        self.view.observe("us", httpx.Headers({"date": date} | headers), sent)

    @property
    def error(self) -> float:
        """Seconds by which our view is ahead of the provider."""
        return (self.view.now("us") - self.clock.now() - self.ahead).total_seconds()


@given(st.floats(-36_000, 36_000), st.lists(st.tuples(st.floats(0, 900), st.floats(0, 2)), min_size=1, max_size=8))
def test_f33_the_clock_of_a_provider_is_known_to_a_second_and_the_time_of_an_answer(
    ahead: float, answers: list[tuple[float, float]]
) -> None:
    provider = TruthfulProvider(ahead)
    for pause, takes in answers:
        provider.clock.advance(timedelta(seconds=pause))
        provider.answer(takes)
    shortest = min(takes for _, takes in answers)
    assert -1 - shortest <= provider.error <= 1 + shortest
    if abs(ahead) > 1 + max(takes for _, takes in answers):
        assert provider.error <= 0, "a window that ends there is never in the provider's future"


def test_f33_a_clock_that_is_set_is_followed_at_the_next_answer() -> None:
    provider = TruthfulProvider(600)
    provider.answer()
    provider.ahead = timedelta(seconds=-600)
    provider.answer()
    assert provider.error == 0


@pytest.mark.parametrize(
    "date", ["", "soon", "Mon, 99 Mar 2026 12:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "9" * 99]
)
def test_f33_an_odd_date_or_the_date_of_a_cache_moves_no_clock(date: str) -> None:
    provider = TruthfulProvider(600)
    provider.answer()
    known = provider.view.now("us")
    provider.view.observe("us", httpx.Headers({"date": date}), provider.clock.now())
    provider.ahead = timedelta(0)
    provider.answer(age="20")
    assert provider.view.now("us") == known
    assert provider.view.now("ou") == provider.clock.now()
