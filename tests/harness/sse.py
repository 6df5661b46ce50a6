"""Client of server-sent events: calls the application directly, and parses by the WHATWG rules."""

import json
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode

import anyio

NO_HEADERS: Mapping[str, str] = {}


class ServerEvent(NamedTuple):
    """One dispatched event, or a comment with the name ``:``."""

    name: str
    id: str | None
    data: Any
    raw: bytes = b""


class SseParser:
    """Splits a stream into events. Fields of unknown names are errors here, because the service sends none."""

    def __init__(self) -> None:
        self.retry: int | None = None
        self._buffer = b""

    def feed(self, content: bytes) -> list[ServerEvent]:
        *blocks, self._buffer = (self._buffer + content).split(b"\n\n")
        return [event for block in blocks if (event := self._parse(block))]

    def _parse(self, block: bytes) -> ServerEvent | None:
        fields: dict[str, bytes] = {}
        for line in block.split(b"\n"):
            if line.startswith(b":"):
                return ServerEvent(":", None, None)
            name, _, value = line.partition(b": ")
            fields[name.decode()] = value
        assert set(fields) <= {"event", "id", "data", "retry"}, fields
        if "retry" in fields:
            self.retry = int(fields["retry"])
            return None
        identity = fields["id"].decode() if "id" in fields else None
        return ServerEvent(fields["event"].decode(), identity, json.loads(fields["data"]), fields["data"])


class SseStream:
    """Answer of one request. ``paused`` stops the reader."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.events: list[ServerEvent] = []
        self.ended = anyio.Event()
        self.is_complete = False
        """The server ended the answer; False if it was cut."""
        self.body = b""
        self.parser = SseParser()
        self._added = anyio.Event()
        self._paused: anyio.Event | None = None
        self.gone = anyio.Event()

    @property
    def named(self) -> list[ServerEvent]:
        """Return the events without heartbeats."""
        return [event for event in self.events if event.name != ":"]

    @property
    def changes(self) -> list[ServerEvent]:
        return [event for event in self.events if event.name.startswith("bg.")]

    @property
    def numbers(self) -> list[int]:
        return [event.data["data"]["change"] for event in self.changes]

    async def wait(self, count: int, seconds: float = 120) -> list[ServerEvent]:
        """Wait for so many events, heartbeats left out."""
        with anyio.fail_after(seconds):
            while len(self.named) < count:
                self._added = anyio.Event()
                await self._added.wait()
        return self.named

    def pause(self) -> None:
        self._paused = anyio.Event()

    def resume(self) -> None:
        if self._paused:
            self._paused.set()
        self._paused = None

    async def receive(self) -> MutableMapping[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self._paused:
            await self._paused.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        self.body += message["body"]
        self.is_complete = not message.get("more_body", False)
        if self.status == 200:
            self.events += self.parser.feed(message["body"])
        self._added.set()


@asynccontextmanager
async def open_stream(
    app: Any,
    path: str,
    headers: Mapping[str, str] = NO_HEADERS,
    *,
    body: Any = None,
    query: Mapping[str, str] = NO_HEADERS,
) -> AsyncIterator[SseStream]:
    """Send a request for a stream. At the end of the context the client disconnects."""
    stream, content = SseStream(), b"" if body is None else json.dumps(body).encode()
    sent = {"host": "ingest.test", "accept": "text/event-stream", **headers}
    if body is not None:
        sent |= {"content-type": "application/json", "content-length": str(len(content))}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET" if body is None else "POST",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": urlencode(query).encode(),
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 1),
        "server": ("ingest.test", 443),
        "state": {},
    }
    requests = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        """Return the request, else wait for the end of the connection.

        As in granian, the request is lost if this call is cancelled, and the next one reports a disconnect.
        """
        if not requests:
            return await stream.receive()
        request = requests.pop()
        try:
            await anyio.sleep(0.001)
        except BaseException:
            stream.gone.set()
            raise
        return request

    async def run() -> None:
        try:
            await app(scope, receive, stream.send)
        finally:
            stream.ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        yield stream
        stream.resume()
        stream.gone.set()
        with anyio.fail_after(60):
            await stream.ended.wait()
