"""GET workers: shards, connections, next polls, budgets, relay and actors of this replica."""

from datetime import datetime

from litestar import Response, Router, get

from bg_ingest.api.dependencies import Use
from bg_ingest.api.problems import build_problem
from bg_ingest.api.routes import RouteOptions, responses
from bg_ingest.domain.access import Scope
from bg_ingest.domain.replica_status import (
    ActorState,
    BudgetState,
    ConnectionCounts,
    OwnerState,
    RelayCounts,
    ReplicaStatus,
    ShardCounts,
    UpcomingPoll,
)
from bg_ingest.ports import ProcessHealth

EXAMPLE = ReplicaStatus(
    owner="ingest-7c9f-1-5f3a9c21",
    state="running",
    unready=(),
    degraded=("broker",),
    shards=ShardCounts(128, 0),
    owners=(
        OwnerState("ingest-7c9f-1-5f3a9c21", 128, leaving=False),
        OwnerState("ingest-b2d1-1-90c4e7aa", 128, leaving=False),
    ),
    connections=ConnectionCounts(
        1_502, 3, (UpcomingPoll(datetime.fromisoformat("2025-04-26T14:40:09Z"), "ada/example"),)
    ),
    budgets=(
        BudgetState(
            provider="example",
            region="us",
            slowdown=1.2,
            wanted_per_second=18.6,
            calls=40_318,
            waiting=0,
            paused=False,
        ),
    ),
    relay=RelayCounts(2, 4),
    actors=(ActorState("broker", running=False, crashes=4), ActorState("scheduler", running=True, crashes=0)),
)


@get(
    "/api/workers",
    operation_id="get_workers",
    summary="Status of this replica",
    responses=responses(
        ReplicaStatus,
        EXAMPLE,
        description="Of the answering replica only: request each replica for all.",
        problems=(401, 503),
    ),
    opt=RouteOptions(scope=Scope.ADMIN).opt(),
    sync_to_thread=False,
)
def workers(process_health: Use[ProcessHealth]) -> Response[ReplicaStatus]:
    """From the memory of the process, without store and provider."""
    status = process_health.status()
    if status is None:
        raise build_problem(
            503, "not-ready", "The actors have not started yet: repeat the request in a second.", {"Retry-After": "1"}
        )
    return Response(status, headers={"Cache-Control": "no-store"})


router = Router("/", route_handlers=[workers], tags=["operation"])
