"""What an operator asks of a connection's past: read it again, compare it."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, Router, post
from litestar.params import JSONBody

from bg_ingest.api.auth import needs
from bg_ingest.api.connections import UNSTORED
from bg_ingest.api.deps import ProviderName, Use, User
from bg_ingest.api.documented import answers, problems
from bg_ingest.api.errors import refusal
from bg_ingest.api.schemas import Span
from bg_ingest.domain.credentials import Scope
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.verification import Difference, Verification
from bg_ingest.domain.windows import Window
from bg_ingest.services.backfill import Backfilling
from bg_ingest.services.verify import Verifying

Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class SpanRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A stretch of time, half-open: RFC 3339 with an offset."""

    from_: Instant | None = None
    to: Instant | None = None


class Comparison(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What a span was compared by; null where nothing of it was read yet."""

    from_: datetime | None
    to: datetime | None
    compared: int
    unreadable: int
    """The provider's records that are no readings; they are set aside, not compared."""
    differences: tuple[Difference, ...]


class CompareRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A stretch of at most what the provider answers at once (30 days); values are shown only when asked for."""

    from_: Instant
    to: Instant
    values: bool = False


MARKED = {"from": "2025-01-26T00:00:00Z", "to": "2025-04-26T14:30:00Z"}
COMPARISON = {
    "from": "2025-04-01T00:00:00Z",
    "to": "2025-04-26T14:30:01Z",
    "compared": 7310,
    "unreadable": 0,
    "differences": [
        {
            "kind": "not_stored",
            "measured_at": "2025-04-03T10:15:00Z",
            "device": "g7/iOS",
            "stored_mg_dl": None,
            "provider_mg_dl": None,
        }
    ],
}


@post(
    "/{provider:str}/backfill",
    operation_id="backfill",
    opt=needs(Scope.CONNECTIONS_WRITE),
    summary="Read the past again",
    status_code=202,
    responses={
        202: answers(Span, MARKED, description="It will be read, newest first; the connection shows what is left."),
        **problems(400, 401, 404, 409, 413, 415, 503),
    },
)
async def backfill(
    user_id: User, provider: ProviderName, backfilling: Use[Backfilling], data: JSONBody[SpanRequest | None] = None
) -> Response[Span]:
    """From the start of the wanted past until now, where an end is left out. What is known already changes nothing."""
    span = data or SpanRequest()
    marked = await backfilling.begin(ConnectionId(user_id, provider), span.from_, span.to)
    return Response(Span(_seconds(marked.start), _seconds(marked.end)), headers=UNSTORED)


@post(
    "/{provider:str}/verify",
    operation_id="verify",
    opt=needs(Scope.ADMIN),
    summary="Compare with the provider",
    status_code=200,
    responses={
        200: answers(Comparison, COMPARISON, description="Where the two differ."),
        **problems(400, 401, 404, 409, 413, 415, 502, 503),
    },
)
async def verify(
    user_id: User, provider: ProviderName, verifying: Use[Verifying], data: JSONBody[CompareRequest]
) -> Response[Comparison]:
    """Asks the provider once, as a repair, and changes nothing."""
    try:
        window = Window(data.from_, data.to)
    except ValueError:
        raise refusal(400, "invalid-range", "'from' must be before 'to'.") from None
    found = await verifying.verify(ConnectionId(user_id, provider), window)
    return Response(_comparison(found, values=data.values), headers=UNSTORED)


def _comparison(found: Verification | None, *, values: bool) -> Comparison:
    if found is None:
        return Comparison(None, None, 0, 0, ())
    differences = found.differences if values else tuple(each.without_values() for each in found.differences)
    window = found.window
    return Comparison(_seconds(window.start), _seconds(window.end), found.compared, found.unreadable, differences)


def _seconds(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)


router = Router("/api/users/{user_id:str}/connections", route_handlers=[backfill, verify], tags=["connections"])
