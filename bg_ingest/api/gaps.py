"""Gaps of a user's readings, and the completeness of each day."""

from litestar import Response, Router, get

from bg_ingest.api.dependencies import Use, User
from bg_ingest.api.etags import CACHE_HEADERS
from bg_ingest.api.query import parse_instant
from bg_ingest.api.readings import From, To, requested_window
from bg_ingest.api.routes import RouteOptions, responses
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
    operation_id="gaps",
    summary="Gaps of a time range",
    responses=responses(
        list[PublicGap],
        [GAP],
        description="Gaps that reach into the time range, ascending.",
        problems=(400, 401, 403, 404, 429, 503),
    ),
)
async def gaps(
    user_id: User, completeness: Use[CompletenessQueries], from_: From = None, to: To = None
) -> Response[list[PublicGap]]:
    """An open gap has no `healed_at`. A gap without `to` lasts: no reading has arrived since its start."""
    window = requested_window(parse_instant("from", from_), parse_instant("to", to), completeness.now())
    gap_rows = await completeness.gaps(user_id, window)
    return Response([public_gap(provider, gap) for provider, gap in gap_rows], headers=CACHE_HEADERS)


@get(
    "/{user_id:str}/completeness",
    operation_id="completeness",
    summary="Completeness of each day",
    responses=responses(
        list[Day],
        [DAY],
        description="UTC days with stored or missing readings, ascending.",
        problems=(400, 401, 403, 404, 429, 503),
    ),
)
async def days(
    user_id: User, completeness: Use[CompletenessQueries], from_: From = None, to: To = None
) -> Response[list[Day]]:
    """`expected` is the sum of stored and missing readings. A day that the range covers in part counts in part."""
    window = requested_window(parse_instant("from", from_), parse_instant("to", to), completeness.now())
    return Response(await completeness.days(user_id, window), headers=CACHE_HEADERS)


router = Router(
    "/api/bg", route_handlers=[gaps, days], tags=["completeness"], opt=RouteOptions(scope=Scope.READINGS_READ).opt()
)
