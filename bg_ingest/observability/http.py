"""Durations of HTTP requests by route, measured around the whole application so that no response is missed."""

from time import perf_counter
from typing import Any

from litestar.types import ASGIApp, HTTPScope, Message, Receive, Send
from prometheus_client import Histogram

from bg_ingest.observability.registry import MetricsRegistry

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
"""Label values; any other method counts as OTHER, because a client must not choose the label."""

NO_ROUTE = "none"
CLIENT_GONE = "499"
"""Status of a request that ended without a response because its client left. The number is from nginx."""


class RequestMetrics:
    """ASGI application around another one. The route label is a template, because paths contain user ids."""

    def __init__(self, app: ASGIApp, metrics: MetricsRegistry) -> None:
        self._app = app
        self._requests = metrics.requests
        self._children: dict[tuple[str, str, str], Histogram] = {}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401 - type of the server
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = CLIENT_GONE

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        began = perf_counter()
        try:
            await self._app(scope, receive, observed)
        finally:
            self._observe(scope, status, perf_counter() - began)

    def _observe(self, scope: HTTPScope, status: str, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        labels = (method, scope.get("path_template") or NO_ROUTE, status)
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._requests.labels(*labels)
        child.observe(seconds)
