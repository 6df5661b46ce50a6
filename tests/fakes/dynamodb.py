"""Server with scripted answers of DynamoDB. No emulator throttles, conflicts, leaves work undone or loses replies."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, NamedTuple

import aioboto3
import anyio
import msgspec
from aiohttp import web

REGION = "us-east-1"
AWS = aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test")


class BrokenReply(Enum):
    """Reply that is no answer of DynamoDB."""

    RESET = auto()
    SILENCE = auto()
    NONSENSE = auto()
    MOVED = auto()
    BUSY = auto()
    """As sent by a proxy or load balancer in front."""


class ErrorReply(NamedTuple):
    """Error in DynamoDB's form."""

    code: str
    status: int = 400
    more: Mapping[str, Any] = MappingProxyType({})


Reply = dict[str, Any] | ErrorReply | BrokenReply


class RecordedRequest(NamedTuple):
    """Request as received."""

    operation: str
    body: dict[str, Any]
    headers: dict[str, str]


class ScriptedDynamo:
    """Answers each request by the script and records it."""

    def __init__(self, script: Callable[[RecordedRequest], Reply]) -> None:
        self.endpoint = self.moved_to = ""
        self.asked: list[RecordedRequest] = []
        self._script = script

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        asked = RecordedRequest(operation, msgspec.json.decode(await request.read()), dict(request.headers))
        self.asked.append(asked)
        match self._script(asked):
            case BrokenReply.RESET:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response()
            case BrokenReply.SILENCE:
                await anyio.sleep_forever()
                raise AssertionError
            case BrokenReply.NONSENSE:
                return web.Response(body=b"<html>", content_type="text/html")
            case BrokenReply.MOVED:
                return web.Response(status=307, headers={"Location": self.moved_to})
            case BrokenReply.BUSY:
                return web.Response(status=502, body=b"<html>", content_type="text/html")
            case ErrorReply(code, status, more):
                error = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "about a secret", **more}
                return web.json_response(error, status=status)
            case reply:
                return web.json_response(reply)


@asynccontextmanager
async def scripted(script: Callable[[RecordedRequest], Reply]) -> AsyncIterator[ScriptedDynamo]:
    """Serve a script on loopback."""
    server = ScriptedDynamo(script)
    # without the access log: its milliseconds are at times the number that tests watch for
    runner = web.ServerRunner(web.Server(server.answer, handler_cancellation=True, access_log=None), shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port, *_ = runner.addresses[0]
    server.endpoint = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()


def in_sequence(*replies: Reply) -> Callable[[RecordedRequest], Reply]:
    """Return a script with these replies; the last one is repeated."""
    remaining = iter(replies)
    return lambda _: next(remaining, replies[-1])
