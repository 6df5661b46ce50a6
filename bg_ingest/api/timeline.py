"""GET timeline: why a user is late, in one answer."""

from datetime import datetime, timedelta

import msgspec
from litestar import Response, Router, get

from bg_ingest.api.auth import needs
from bg_ingest.api.deps import ProviderName, Use, User
from bg_ingest.api.documented import answers, problems
from bg_ingest.domain.connections import State
from bg_ingest.domain.credentials import Scope
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.timeline import Moment, Timeline, What
from bg_ingest.domain.turns import Why
from bg_ingest.ports import Vitals
from bg_ingest.services.timeline import Timelines

BECAUSE: dict[str, str] = {
    Why.START: "It has not been looked at since this replica took it over: that comes within seconds.",
    Why.SLOT: "The next reading is expected then.",
    Why.SILENCE: "The provider has nothing new: sensor, phone or upload is silent. Looks go on, further apart.",
    Why.PAST: "There is more to read: the past, or what is missing.",
    Why.RETRY: "The last look failed, as its outcome says: it is tried again.",
    Why.ASKED: "Somebody asked for a look.",
    State.CONNECTING: "The person has not finished connecting.",
    State.PAUSED: "It is paused: set paused to false.",
    State.REAUTHORIZATION_REQUIRED: "The provider no longer accepts the grant: the person must connect again.",
    State.DISCONNECTED: "It was disconnected: the person must connect again.",
}


class NextLook(msgspec.Struct, frozen=True):
    """When it is looked at next, and why then; ``at`` is null where it never is, or where another replica knows."""

    at: datetime | None
    why: str
    because: str
    failures: int


class TimelineShown(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands, what comes next, and what happened, the latest first."""

    provider: str
    state: State
    newest_reading_at: datetime | None
    next: NextLook
    complete: bool
    """False where another replica polls: then looks that brought nothing new are missing here."""
    moments: tuple[Moment, ...]


def shown(timeline: Timeline) -> TimelineShown:
    connection, ahead = timeline.connection, timeline.next
    return TimelineShown(
        provider=connection.id.provider,
        state=connection.state,
        newest_reading_at=connection.newest_reading_at,
        next=NextLook(_second(ahead.at), ahead.why, BECAUSE[ahead.why], ahead.failures),
        complete=timeline.polled_here,
        moments=tuple(msgspec.structs.replace(each, at=_second(each.at) or each.at) for each in timeline.moments),
    )


def _second(instant: datetime | None) -> datetime | None:
    return instant.replace(microsecond=0) if instant else None


_AT = datetime.fromisoformat("2025-04-26T14:35:12Z")

EXAMPLE = TimelineShown(
    provider="example",
    state=State.ACTIVE,
    newest_reading_at=_AT - timedelta(minutes=40),
    next=NextLook(_AT + timedelta(minutes=15), Why.SILENCE, BECAUSE[Why.SILENCE], 0),
    complete=True,
    moments=(
        Moment(at=_AT, what=What.LOOKED, origin=Origin.LIVE, outcome="nothing_new", readings=0),
        Moment(at=_AT - timedelta(minutes=30), what=What.RECORDED, origin=Origin.LIVE, readings=3),
    ),
)


@get(
    "/{provider:str}/timeline",
    operation_id="get_timeline",
    opt=needs(Scope.CONNECTIONS_READ),
    summary="What happened lately, and what comes next",
    responses={
        200: answers(TimelineShown, EXAMPLE, description="The latest first."),
        **problems(400, 401, 404, 503),
    },
)
async def timeline(
    user_id: User, provider: ProviderName, timelines: Use[Timelines], vitals: Use[Vitals]
) -> Response[TimelineShown]:
    """Why a user is late. Read from what is stored anyway, and from looks that the answering replica remembers."""
    found = await timelines.of(ConnectionId(user_id, provider), vitals.ahead)
    return Response(shown(found), headers={"Cache-Control": "no-store"})


router = Router("/api/users/{user_id:str}/connections", route_handlers=[timeline], tags=["connections"])
