"""Public routes for operation: liveness and readiness for load balancers, metrics for Prometheus."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
from litestar import Response, Router, get

from bg_ingest.api.dependencies import Use
from bg_ingest.api.problems import Problem, ProblemError
from bg_ingest.api.routes import RouteOptions, responses
from bg_ingest.ports import ProcessHealth

_NO_STORE_HEADERS = {"Cache-Control": "no-store"}


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process that serves. `degraded` names broken parts that do not keep it from serving."""

    status: str
    degraded: tuple[str, ...] = ()


@get(
    "/live",
    operation_id="live",
    summary="Liveness",
    responses=responses(Health, Health("live"), description="The process is alive."),
    sync_to_thread=False,
)
def live() -> Response[Health]:
    """Uses neither store nor provider: restart the process if this does not answer."""
    return Response(Health("live"), headers=_NO_STORE_HEADERS)


@get(
    "/ready",
    operation_id="ready",
    summary="Readiness",
    responses=responses(Health, Health("ready", ("broker",)), description="Traffic may be sent here.", problems=(503,)),
    sync_to_thread=False,
)
def ready(process_health: Use[ProcessHealth]) -> Response[Health]:
    """503 with the names of the reasons while the process starts, drains or cannot serve."""
    reasons = tuple(process_health.unready_reasons())
    if reasons:
        detail = "Send no traffic here now: wait until this answers 200."
        raise ProblemError(Problem("not-ready", "Not ready", 503, detail, reasons))
    return Response(Health("ready", tuple(process_health.degraded_parts())), headers=_NO_STORE_HEADERS)


router = Router(
    "/health", route_handlers=[live, ready], tags=["health"], opt=RouteOptions(public=True).opt(), security=[{}]
)

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4"
"""Litestar adds the charset."""

Exposition: TypeAlias = Callable[[], Awaitable[bytes]]
"""Returns the metrics as text."""

METRICS_EXAMPLE = 'bg_ingest_readings_total{provider="example",origin="live",outcome="recorded"} 2016.0'


@get(
    operation_id="metrics",
    summary="Metrics for Prometheus",
    media_type=METRICS_MEDIA_TYPE,
    responses=responses(str, METRICS_EXAMPLE, description="In Prometheus' text format.", media_type=METRICS_MEDIA_TYPE),
)
async def metrics(exposition: Use[Exposition]) -> Response[bytes]:
    """Counts and durations, without user ids and readings."""
    return Response(await exposition(), media_type=METRICS_MEDIA_TYPE, headers={"Cache-Control": "no-store"})


metrics_router = Router(
    "/metrics", route_handlers=[metrics], tags=["health"], opt=RouteOptions(public=True).opt(), security=[{}]
)
