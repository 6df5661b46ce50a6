"""Request id and route in log lines. Requests themselves are counted in metrics, not logged."""

from contextvars import ContextVar
from typing import Any

from litestar.types import ASGIApp, Receive, Send
from structlog.typing import EventDict, WrappedLogger

from bg_ingest.api.headers import request_id

_scope: ContextVar[Any] = ContextVar("scope")


class RequestContext:
    """ASGI application that keeps the current request for `add_request`, which computes id and route per log line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401 - the server's
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        before = _scope.set(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            _scope.reset(before)


def add_request(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Add the request's id and the template of its path, because the path itself holds the user's id."""
    scope = _scope.get(None)
    if scope is not None and "state" in scope:
        event.setdefault("request_id", request_id(scope))
        event.setdefault("route", scope.get("path_template"))
    return event
