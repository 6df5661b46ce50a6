"""Diagnosis of a connection: its recent events and next poll, and a comparison with the provider for operators."""

from datetime import datetime, timedelta

import msgspec
from litestar import Router, get, post
from litestar.params import JSONBody

from bg_ingest.api import query
from bg_ingest.api.dependencies import ProviderName, RouteOptions, Use, User
from bg_ingest.api.openapi import USER_PROBLEMS, responses
from bg_ingest.api.schemas import whole_seconds
from bg_ingest.domain.access import Scope
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import NextPollReason
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.timeline import Timeline, TimelineEvent, TimelineKind
from bg_ingest.domain.verification import Difference, Verification
from bg_ingest.ports import ProcessHealth
from bg_ingest.services.queries.completeness import Verifier
from bg_ingest.services.queries.timeline import TimelineQueries

REASON_TEXTS: dict[str, str] = {
    NextPollReason.START: "Not polled since this replica took it over: the first poll follows within seconds.",
    NextPollReason.SLOT: "The next reading is expected then.",
    NextPollReason.SILENCE: "The provider has nothing new: sensor, phone or upload is silent. Polls are less frequent.",
    NextPollReason.MORE_TO_READ: "There is more to read: the backfill, or missing readings.",
    NextPollReason.RETRY: "The last poll failed, see its outcome: it is repeated.",
    NextPollReason.BUDGET: "The provider's call limit is used up, or its calls are paused: the poll waits for a call.",
    NextPollReason.REQUESTED: "A poll was requested.",
    ConnectionState.CONNECTING: "The person has not finished connecting.",
    ConnectionState.PAUSED: "The connection is paused: set paused to false.",
    ConnectionState.REAUTHORIZATION_REQUIRED: "The provider refuses the grant: the person must connect again.",
    ConnectionState.DISCONNECTED: "The connection has ended: the person must connect again.",
}


class NextPollResponse(msgspec.Struct, frozen=True):
    """Next poll of a connection and its reason: `why` is the reason's code, `because` its text.

    `at` is null without a next poll, or if its time is unknown to the answering replica.
    """

    at: datetime | None
    why: str
    because: str
    failures: int


class TimelineResponse(msgspec.Struct, frozen=True, kw_only=True):
    """State of a connection, its next poll, and its recent events, the latest first."""

    provider: str
    state: ConnectionState
    newest_reading_at: datetime | None
    next: NextPollResponse
    complete: bool
    """False if another replica polls the connection: polls without new readings are then missing in `events`."""
    events: tuple[TimelineEvent, ...]


def to_response(timeline: Timeline) -> TimelineResponse:
    connection, next_poll = timeline.connection, timeline.next
    return TimelineResponse(
        provider=connection.id.provider,
        state=connection.state,
        newest_reading_at=connection.newest_reading_at,
        next=NextPollResponse(
            next_poll.at and whole_seconds(next_poll.at),
            next_poll.reason,
            REASON_TEXTS[next_poll.reason],
            next_poll.failures,
        ),
        complete=timeline.polled_here,
        events=tuple(msgspec.structs.replace(event, at=whole_seconds(event.at)) for event in timeline.events),
    )


_AT = datetime.fromisoformat("2025-04-26T14:35:12Z")

TIMELINE = TimelineResponse(
    provider="example",
    state=ConnectionState.ACTIVE,
    newest_reading_at=_AT - timedelta(minutes=40),
    next=NextPollResponse(_AT + timedelta(minutes=15), NextPollReason.SILENCE, REASON_TEXTS[NextPollReason.SILENCE], 0),
    complete=True,
    events=(
        TimelineEvent(at=_AT, kind=TimelineKind.POLLED, origin=Origin.LIVE, outcome="nothing_new", readings=0),
        TimelineEvent(at=_AT - timedelta(minutes=30), kind=TimelineKind.RECORDED, origin=Origin.LIVE, readings=3),
    ),
)


@get(
    "/{provider:str}/timeline",
    opt=RouteOptions(scope=Scope.CONNECTIONS_READ).opt(),
    summary="Recent events and the next poll",
    responses=responses("The latest first.", TimelineResponse, TIMELINE, problems=USER_PROBLEMS),
)
async def get_timeline(
    user_id: User, provider: ProviderName, timelines: Use[TimelineQueries], process_health: Use[ProcessHealth]
) -> TimelineResponse:
    """Explains late readings, from stored changes and from the recent polls of the answering replica."""
    return to_response(await timelines.read(ConnectionId(user_id, provider), process_health.next_poll))


class Comparison(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Compared window, null if the connection has read nothing in it yet, and the differences."""

    from_: datetime | None
    to: datetime | None
    compared: int
    unreadable: int
    """Records of the provider that are no readings; they are not compared."""
    differences: tuple[Difference, ...]


class VerifyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Window of at most one provider request (30 days). Glucose values are included only with `values`.

    Each end is RFC 3339 with an offset, or a date (UTC).
    """

    from_: query.TimeText
    to: query.TimeText
    values: bool = False


_DIFFERENCE = {"kind": "not_stored", "measured_at": "2025-04-03T10:15:00Z", "device": "g7/iOS"}
COMPARISON = {
    "from": "2025-04-01T00:00:00Z",
    "to": "2025-04-26T14:30:01Z",
    "compared": 7310,
    "unreadable": 0,
    "differences": [_DIFFERENCE | {"stored_mg_dl": None, "provider_mg_dl": None}],
}


@post(
    "/{provider:str}/verify",
    opt=RouteOptions(scope=Scope.ADMIN).opt(),
    summary="Compare with the provider",
    status_code=200,
    responses=responses(
        "Differences between store and provider.",
        Comparison,
        COMPARISON,
        problems=(*USER_PROBLEMS, 408, 409, 413, 415, 502),
    ),
)
async def verify(
    user_id: User, provider: ProviderName, verifier: Use[Verifier], data: JSONBody[VerifyRequest]
) -> Comparison:
    """Calls the provider once, with the priority of a repair, and changes nothing."""
    window = query.sent_window(query.parse_time("from", data.from_), query.parse_time("to", data.to))
    verification = await verifier.verify(ConnectionId(user_id, provider), window)
    return _to_comparison(verification, values=data.values)


def _to_comparison(verification: Verification | None, *, values: bool) -> Comparison:
    if verification is None:
        return Comparison(None, None, 0, 0, ())
    window, differences = verification.window, verification.differences
    if not values:
        differences = tuple(difference.without_values() for difference in differences)
    return Comparison(
        whole_seconds(window.start),
        whole_seconds(window.end),
        verification.compared,
        verification.unreadable,
        differences,
    )


router = Router("/api/users/{user_id:str}/connections", route_handlers=[get_timeline, verify], tags=["connections"])
