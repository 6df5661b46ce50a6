"""Durations of HTTP requests by route, measured around the whole application so that no response is missed."""

from time import perf_counter
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send

from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.observability.timing import Timer

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
"""Label values; any other method counts as OTHER, because a client must not choose the label."""

NO_ROUTE = "none"
UNAUTHENTICATED_LABELS = ("OTHER", NO_ROUTE, "401")
"""Labels of all requests refused for their credential. The series exists from the start."""

CLIENT_GONE = "499"
"""Status of a request that ended without a response because its client left. The number is from nginx."""


class RequestMetrics:
    """ASGI middleware that measures each request. The route label is a template, because paths contain user ids."""

    def __init__(self, app: ASGIApp, metrics: MetricsRegistry) -> None:
        self._app = app
        self._requests = Timer(metrics.requests)
        metrics.requests.labels(*UNAUTHENTICATED_LABELS)

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
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            route = scope.get("path_template") or NO_ROUTE
            if scope.get("state", {}).get("unauthenticated"):  # a caller without credential chooses no label
                method, route, status = UNAUTHENTICATED_LABELS
            if not scope.get("state", {}).get("is_event_stream"):  # a stream stays open for hours
                self._requests.observe(perf_counter() - began, method, route, status)
