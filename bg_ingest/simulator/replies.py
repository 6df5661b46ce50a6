"""Execution of a call: counting, faults, work, and a complete or broken reply."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from email.utils import format_datetime
from typing import TypeAlias

import anyio
import httpx
import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from bg_ingest.simulator.faults import (
    AnswerFault,
    DeliveryFault,
    Endpoint,
    Failed,
    Fault,
    Html,
    ReplyLost,
    Reset,
    Slow,
    Throttled,
)
from bg_ingest.simulator.simulator import Simulator

_HTML = "<!doctype html><title>We'll be right back</title><h1>We'll be right back</h1>"


SimulatorRequest: TypeAlias = Request[None, None, State]
SimulatorDependency: TypeAlias = NamedDependency[Simulator]


class Reply(msgspec.Struct, frozen=True):
    """Answer before faults are applied."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    media_type: str = "application/json"


class ConnectionLost(httpx.ReadError):
    """Ends a reply in the middle.

    A server closes the connection. The in-process transport of httpx raises this error unchanged, so the client gets
    the same error as on a real connection.
    """


class LostReply(ASGIResponse):
    """Announces the complete body and breaks the connection after `sent` bytes of it."""

    def __init__(self, reply: Reply, sent: int) -> None:
        super().__init__(
            body=reply.body, status_code=reply.status, headers=dict(reply.headers), media_type=reply.media_type
        )
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        await self.start_response(send)
        await send({"type": "http.response.body", "body": self.body[: self._sent], "more_body": True})
        raise ConnectionLost("The simulator was asked to break this connection.")


Work = Callable[[Sequence[Fault]], Reply]
"""The call itself. It receives the faults of its reply, because the journal records the delivery of a token."""


async def carry_out(simulator: Simulator, endpoint: Endpoint, user: str | None, work: Work) -> ASGIResponse:
    """Answer one call of the API: the limit first, then faults, then the work."""
    if not simulator.limit.acquire(simulator.now()):
        return _count_and_send(simulator, endpoint, Reply(429, fault_body("Rate limit exceeded", "RateLimitExceeded")))
    call_faults = simulator.faults.meet(endpoint, user)
    for fault in call_faults:
        if isinstance(fault, Slow):
            await anyio.sleep(fault.seconds)
    for fault in call_faults:
        if isinstance(fault, AnswerFault):
            return _count_and_send(simulator, endpoint, build_answer_fault(simulator, fault), call_faults)
    return _count_and_send(simulator, endpoint, work(call_faults), call_faults)


def build_answer_fault(simulator: Simulator, fault: AnswerFault) -> Reply:
    """Return the reply that replaces the answer."""
    match fault:
        case Throttled(retry_after=None):
            return Reply(429, fault_body("Rate limit exceeded", "RateLimitExceeded"))
        case Throttled(retry_after=int(seconds), as_date=as_date):
            until = simulator.now() + timedelta(seconds=seconds)
            retry_after = format_datetime(until, usegmt=True) if as_date else str(seconds)
            return Reply(429, fault_body("Rate limit exceeded", "RateLimitExceeded"), {"retry-after": retry_after})
        case Failed(status=status):
            return Reply(status, _HTML.encode(), media_type="text/html")
        case Html():
            return Reply(200, _HTML.encode(), media_type="text/html")
        case _:
            return Reply(200, b"{}")


def is_answered(call_faults: Sequence[Fault]) -> bool:
    """Return True if the client receives the complete reply."""
    return not any(isinstance(fault, DeliveryFault) for fault in call_faults)


def fault_body(text: str, code: str) -> bytes:
    """Return an error of the data endpoints. Dexcom documents no shape; this is the known shape of its gateway."""
    return msgspec.json.encode({"fault": {"faultstring": text, "detail": {"errorcode": code}}})


def to_response(reply: Reply) -> ASGIResponse:
    return ASGIResponse(
        body=reply.body, status_code=reply.status, headers=dict(reply.headers), media_type=reply.media_type
    )


def _count_and_send(
    simulator: Simulator, endpoint: Endpoint, reply: Reply, call_faults: Sequence[Fault] = ()
) -> ASGIResponse:
    simulator.calls[endpoint, reply.status] += 1
    if any(isinstance(fault, Reset) for fault in call_faults):
        return LostReply(reply, 0)
    if any(isinstance(fault, ReplyLost) for fault in call_faults):
        return LostReply(reply, len(reply.body) // 2)
    if not is_answered(call_faults):
        return to_response(msgspec.structs.replace(reply, body=reply.body[: len(reply.body) // 2]))
    return to_response(reply)
