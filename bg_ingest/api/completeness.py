"""Gaps of a time range, and the completeness of each day."""

from typing import Any

from litestar import Request, Response, Router, get

from bg_ingest.api import query
from bg_ingest.api.dependencies import RouteOptions, Use, User
from bg_ingest.api.etags import CACHE_HEADERS
from bg_ingest.api.fairness import LongAnswers
from bg_ingest.api.openapi import USER_PROBLEMS, responses
from bg_ingest.domain.access import Scope
from bg_ingest.domain.cloud_events import PublicGap, public_gap
from bg_ingest.domain.completeness import Day
from bg_ingest.services.queries.completeness import CompletenessQueries

GAP = {
    "provider": "example",
    "from": "2025-04-26T14:30:00Z",
    "to": "2025-04-26T15:10:00Z",
    "cause": "provider_has_nothing",
    "cadence_seconds": 300,
    "missing": 8,
    "opened_at": "2025-04-26T15:41:30Z",
    "healed_at": None,
}
DAY = {
    "date": "2025-04-26",
    "provider": "example",
    "expected": 288,
    "stored": 280,
    "late": 4,
    "revised": 0,
    "quarantined": 1,
    "missing": {"provider_has_nothing": 8},
}


@get(
    "/{user_id:str}/gaps",
    summary="Gaps of a time range",
    responses=responses(
        "Gaps that reach into the time range, ascending.", list[PublicGap], [GAP], problems=USER_PROBLEMS
    ),
)
async def gaps(
    request: Request[Any, Any, Any],
    user_id: User,
    completeness: Use[CompletenessQueries],
    long_answers: Use[LongAnswers],
    from_: query.From = None,
    to: query.To = None,
) -> Response[list[PublicGap]]:
    """An open gap has no `healed_at`. A gap without `to` lasts: no reading has arrived since its start."""
    start, end = query.parse_instant("from", from_), query.parse_instant("to", to)
    window = query.bounded_window(start, end, completeness.now())
    async with long_answers.open(request.scope):
        gap_rows = await completeness.gaps(user_id, window)
    return Response([public_gap(provider, gap) for provider, gap in gap_rows], headers=CACHE_HEADERS)


@get(
    "/{user_id:str}/completeness",
    summary="Completeness of each day",
    responses=responses(
        "UTC days with stored or missing readings, ascending.", list[Day], [DAY], problems=USER_PROBLEMS
    ),
)
async def completeness(
    request: Request[Any, Any, Any],
    user_id: User,
    completeness: Use[CompletenessQueries],
    long_answers: Use[LongAnswers],
    from_: query.From = None,
    to: query.To = None,
) -> Response[list[Day]]:
    """`expected` is the sum of stored and missing readings. A day partly outside the range counts only inside it."""
    start, end = query.parse_instant("from", from_), query.parse_instant("to", to)
    window = query.bounded_window(start, end, completeness.now())
    async with long_answers.open(request.scope):
        return Response(await completeness.days(user_id, window), headers=CACHE_HEADERS)


router = Router(
    "/api/bg",
    route_handlers=[gaps, completeness],
    tags=["completeness"],
    opt=RouteOptions(scope=Scope.READINGS_READ).opt(),
)
