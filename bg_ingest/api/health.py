"""Routes for operation: liveness and readiness for load balancers, metrics for Prometheus, status of the replica."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeAlias

import msgspec
from litestar import Router, get

from bg_ingest.api.dependencies import RouteOptions, Use
from bg_ingest.api.openapi import responses
from bg_ingest.api.problems import Problem, ProblemError, build_problem
from bg_ingest.domain import replica_status as replica
from bg_ingest.domain.access import Scope
from bg_ingest.ports import ProcessHealth

_PUBLIC = RouteOptions(public=True).opt()
_ANY_ORIGIN = RouteOptions(public=True, any_origin=True).opt()


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer of a live or ready process. `degraded` names broken parts without which the process still serves."""

    status: str
    degraded: tuple[str, ...] = ()


@get(
    "/live",
    summary="Liveness",
    responses=responses("The process is alive.", Health, Health("live")),
    sync_to_thread=False,
)
def live() -> Health:
    """Uses neither store nor provider: restart the process if this does not answer."""
    return Health("live")


@get(
    "/ready",
    summary="Readiness",
    responses=responses("Traffic may be sent here.", Health, Health("ready", ("broker",)), problems=(503,)),
    sync_to_thread=False,
)
def ready(process_health: Use[ProcessHealth]) -> Health:
    """503 with the names of the reasons while the process starts, drains or cannot serve."""
    reasons = tuple(process_health.unready_reasons())
    if reasons:
        detail = "Send no traffic here now: wait until this answers 200."
        raise ProblemError(Problem("not-ready", "Not ready", 503, detail, reasons))
    return Health("ready", tuple(process_health.degraded_parts()))


router = Router("/health", route_handlers=[live, ready], tags=["health"], opt=_ANY_ORIGIN, security=[{}])

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4"
"""Litestar adds the charset."""

Exposition: TypeAlias = Callable[[], Awaitable[bytes]]
"""Returns the metrics as text."""

METRICS_EXAMPLE = 'bg_ingest_readings_total{provider="example",origin="live",outcome="recorded"} 2016.0'


@get(
    summary="Metrics for Prometheus",
    media_type=METRICS_MEDIA_TYPE,
    responses=responses(
        "In Prometheus' text format.", str, METRICS_EXAMPLE, media_type=METRICS_MEDIA_TYPE, problems=(403, 421)
    ),
)
async def metrics(exposition: Use[Exposition]) -> bytes:
    """Counts and durations, without user ids and readings."""
    return await exposition()


metrics_router = Router("/metrics", route_handlers=[metrics], tags=["health"], opt=_PUBLIC, security=[{}])


STATUS_EXAMPLE = replica.ReplicaStatus(
    owner="ingest-7c9f-1-5f3a9c21",
    state="running",
    unready=(),
    degraded=("broker",),
    shards=replica.ShardCounts(128, 0),
    owners=(
        replica.OwnerState("ingest-7c9f-1-5f3a9c21", 128, leaving=False),
        replica.OwnerState("ingest-b2d1-1-90c4e7aa", 128, leaving=False),
    ),
    connections=replica.ConnectionCounts(
        1_502, 3, (replica.UpcomingPoll(datetime.fromisoformat("2025-04-26T14:40:09Z"), "ada/example"),)
    ),
    budgets=(
        replica.BudgetState(
            provider="example", region="us", slowdown=1.2, wanted_per_second=18.6, calls=40_318, waiting=0, paused=False
        ),
    ),
    relay=replica.RelayCounts(2, 4),
    actors=(
        replica.ActorState("broker", running=False, crashes=4),
        replica.ActorState("scheduler", running=True, crashes=0),
    ),
)


@get(
    "/api/workers",
    summary="Status of this replica",
    responses=responses(
        "Status of the answering replica only. For all replicas, send the request to each.",
        replica.ReplicaStatus,
        STATUS_EXAMPLE,
        problems=(401, 503),
    ),
    opt=RouteOptions(scope=Scope.ADMIN).opt(),
    sync_to_thread=False,
)
def get_workers(process_health: Use[ProcessHealth]) -> replica.ReplicaStatus:
    """From the memory of the process, without store and provider."""
    status = process_health.status()
    if status is None:
        raise build_problem(
            503, "not-ready", "The actors have not started yet: repeat the request in a second.", {"Retry-After": "1"}
        )
    return status


workers_router = Router("/", route_handlers=[get_workers], tags=["operation"])
