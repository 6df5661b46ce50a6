"""What this replica does: its shards, connections, next turns, budgets, relay and actors in one answer."""

from datetime import datetime

import msgspec
from litestar import Response, Router, get

from bg_ingest.api.auth import require_scope
from bg_ingest.api.dependencies import Use
from bg_ingest.api.openapi import ok_response, problem_responses
from bg_ingest.api.problems import build_problem
from bg_ingest.domain.access import Scope
from bg_ingest.domain.replica_status import ActorState, BudgetState, OwnerState, ReplicaStatus
from bg_ingest.ports import ProcessHealth


class ShardCounts(msgspec.Struct, frozen=True):
    """Slices of the users. ``unserved`` were taken a moment ago and are still being read."""

    owned: int
    loading: int


class NextPollEntry(msgspec.Struct, frozen=True):
    """When a connection is looked at next, and which."""

    due: datetime
    connection: str


class ConnectionCounts(msgspec.Struct, frozen=True):
    """Those this replica polls."""

    polled: int
    polls_running: int
    next_polls: tuple[NextPollEntry, ...]


class RelayCounts(msgspec.Struct, frozen=True):
    """Shards known to have something to tell, and how often in a row telling has failed."""

    backlog_shards: int
    failures: int


class WorkersReport(msgspec.Struct, frozen=True, kw_only=True):
    """One replica at one moment; ``owners`` are all replicas, as this one last saw them."""

    owner: str | None
    state: str
    unready: tuple[str, ...]
    degraded: tuple[str, ...]
    shards: ShardCounts
    owners: tuple[OwnerState, ...]
    connections: ConnectionCounts
    budgets: tuple[BudgetState, ...]
    relay: RelayCounts
    actors: tuple[ActorState, ...]


def to_report(report: ReplicaStatus) -> WorkersReport:
    return WorkersReport(
        owner=report.owner,
        state=report.state,
        unready=report.unready,
        degraded=report.degraded,
        shards=ShardCounts(report.shards, report.shards_loading),
        owners=report.owners,
        connections=ConnectionCounts(
            report.connections,
            report.polls_running,
            tuple(NextPollEntry(each.due.replace(microsecond=0), str(each.connection)) for each in report.next_polls),
        ),
        budgets=report.budgets,
        relay=RelayCounts(report.relay_backlog, report.relay_failures),
        actors=report.actors,
    )


EXAMPLE = WorkersReport(
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
        1_502, 3, (NextPollEntry(datetime.fromisoformat("2025-04-26T14:40:09Z"), "ada/example"),)
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
    summary="What this replica does",
    responses={
        200: ok_response(WorkersReport, EXAMPLE, description="Of the replica that answers; ask each one for all."),
        **problem_responses(401, 503),
    },
    opt=require_scope(Scope.ADMIN),
    sync_to_thread=False,
)
def workers(process_health: Use[ProcessHealth]) -> Response[WorkersReport]:
    """Asks neither store nor provider: it tells what the process knows."""
    report = process_health.status()
    if report is None:
        raise build_problem(
            503, "not-ready", "The actors have not started yet: ask again in a moment.", {"Retry-After": "1"}
        )
    return Response(to_report(report), headers={"Cache-Control": "no-store"})


router = Router("/", route_handlers=[workers], tags=["operation"])
