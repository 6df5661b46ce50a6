"""What this replica does: its shards, connections, next turns, budgets, relay and actors in one answer."""

from datetime import datetime

import msgspec
from litestar import Response, Router, get

from bg_ingest.api.auth import needs
from bg_ingest.api.deps import Use
from bg_ingest.api.documented import answers, problems
from bg_ingest.api.errors import refusal
from bg_ingest.domain.credentials import Scope
from bg_ingest.domain.vitals import ActorState, BudgetState, OwnerState, Report
from bg_ingest.ports import Vitals


class Shards(msgspec.Struct, frozen=True):
    """Slices of the users. ``unserved`` were taken a moment ago and are still being read."""

    owned: int
    unserved: int


class NextTurn(msgspec.Struct, frozen=True):
    """When a connection is looked at next, and which."""

    due: datetime
    connection: str


class Connections(msgspec.Struct, frozen=True):
    """Those this replica polls."""

    polled: int
    turns_running: int
    next_turns: tuple[NextTurn, ...]


class Telling(msgspec.Struct, frozen=True):
    """Shards known to have something to tell, and how often in a row telling has failed."""

    backlog_shards: int
    failures: int


class WorkersReport(msgspec.Struct, frozen=True, kw_only=True):
    """One replica at one moment; ``owners`` are all replicas, as this one last saw them."""

    owner: str | None
    state: str
    unready: tuple[str, ...]
    degraded: tuple[str, ...]
    shards: Shards
    owners: tuple[OwnerState, ...]
    connections: Connections
    budgets: tuple[BudgetState, ...]
    relay: Telling
    actors: tuple[ActorState, ...]


def report_of(report: Report) -> WorkersReport:
    return WorkersReport(
        owner=report.owner,
        state=report.state,
        unready=report.unready,
        degraded=report.degraded,
        shards=Shards(report.shards, report.shards_unserved),
        owners=report.owners,
        connections=Connections(
            report.connections,
            report.turns_running,
            tuple(NextTurn(each.due.replace(microsecond=0), str(each.connection)) for each in report.next_turns),
        ),
        budgets=report.budgets,
        relay=Telling(report.relay_backlog, report.relay_failures),
        actors=report.actors,
    )


EXAMPLE = WorkersReport(
    owner="ingest-7c9f-1-5f3a9c21",
    state="running",
    unready=(),
    degraded=("broker",),
    shards=Shards(128, 0),
    owners=(
        OwnerState("ingest-7c9f-1-5f3a9c21", 128, leaving=False),
        OwnerState("ingest-b2d1-1-90c4e7aa", 128, leaving=False),
    ),
    connections=Connections(1_502, 3, (NextTurn(datetime.fromisoformat("2025-04-26T14:40:09Z"), "ada/example"),)),
    budgets=(
        BudgetState(
            provider="example",
            region="us",
            stretch=1.2,
            wanted_per_second=18.6,
            calls=40_318,
            waiting=0,
            paused=False,
        ),
    ),
    relay=Telling(2, 4),
    actors=(ActorState("broker", running=False, crashes=4), ActorState("scheduler", running=True, crashes=0)),
)


@get(
    "/api/workers",
    operation_id="get_workers",
    summary="What this replica does",
    responses={
        200: answers(WorkersReport, EXAMPLE, description="Of the replica that answers; ask each one for all."),
        **problems(401, 503),
    },
    opt=needs(Scope.ADMIN),
    sync_to_thread=False,
)
def workers(vitals: Use[Vitals]) -> Response[WorkersReport]:
    """Asks neither store nor provider: it tells what the process knows."""
    report = vitals.report()
    if report is None:
        raise refusal(503, "not-ready", "The actors have not started yet: ask again in a moment.", {"Retry-After": "1"})
    return Response(report_of(report), headers={"Cache-Control": "no-store"})


router = Router("/", route_handlers=[workers], tags=["operation"])
