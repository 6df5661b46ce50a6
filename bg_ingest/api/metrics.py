"""GET /metrics for Prometheus, which sends no credentials."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from litestar import Response, Router, get

from bg_ingest.api.dependencies import Use
from bg_ingest.api.routes import RouteOptions, responses

MEDIA_TYPE = "text/plain; version=0.0.4"
"""Litestar adds the charset."""

Exposition: TypeAlias = Callable[[], Awaitable[bytes]]
"""Returns the metrics as text."""

EXAMPLE = 'bg_ingest_readings_total{provider="example",origin="live",outcome="recorded"} 2016.0'


@get(
    operation_id="metrics",
    summary="Metrics for Prometheus",
    media_type=MEDIA_TYPE,
    responses=responses(str, EXAMPLE, description="In Prometheus' text format.", media_type=MEDIA_TYPE),
)
async def metrics(exposition: Use[Exposition]) -> Response[bytes]:
    """Counts and durations, without user ids and readings."""
    return Response(await exposition(), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})


router = Router(
    "/metrics", route_handlers=[metrics], tags=["health"], opt=RouteOptions(public=True).opt(), security=[{}]
)
