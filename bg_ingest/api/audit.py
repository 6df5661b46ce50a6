"""Who read or changed whose data: noted as answers begin, and answered to operators."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol

import msgspec
from litestar import Request, Response, Router, get
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter
from litestar.types import Message, Scope

from bg_ingest.api.auth import caller_of, needs
from bg_ingest.api.deps import Use
from bg_ingest.api.documented import answers, problems
from bg_ingest.api.errors import refusal
from bg_ingest.api.formats import JSON, pieces
from bg_ingest.api.streaming import Streamed
from bg_ingest.api.times import instant
from bg_ingest.domain import credentials
from bg_ingest.domain.audit import Action, Record
from bg_ingest.domain.ids import UserId, is_user_id
from bg_ingest.domain.windows import Window
from bg_ingest.services.audit import USUAL_LENGTH, Auditing
from bg_ingest.services.read import Reader

PUSHES = {"audited_as": Action.PUSH}
"""A route's ``opt`` when readings are pushed to it."""

CONNECTS = {"audited_as": Action.CHANGE}
"""The same of a route that changes something by GET."""

_TYPE = re.compile(r":\w+}")
_READING = {"GET", "HEAD"}


class Audits(Protocol):
    """Where the use case is found, once it is there."""

    @property
    def auditing(self) -> Auditing: ...


def concerns(scope: Scope, user: UserId) -> None:
    """Say whose data a request is about whose path does not."""
    scope["state"]["audited_user"] = user


def noting(services: Audits) -> Callable[[Message, Scope], Any]:
    """Return what notes each answer that shows or changed somebody's data, as it starts; refusals show nothing."""

    async def note(message: Message, scope: Scope) -> None:
        if message["type"] != "http.response.start" or message["status"] >= 400:
            return
        route: BaseRouteHandler | None = scope.get("route_handler")
        user = scope["state"].get("audited_user") or scope.get("path_params", {}).get("user_id")
        method = scope.get("method")
        if route is None or not user or method == "OPTIONS":
            return
        caller = caller_of(scope)
        action = route.opt.get("audited_as") or (Action.READ if method in _READING else Action.CHANGE)
        credential = caller.name if caller else "signature" if action is Action.PUSH else "oauth-state"
        services.auditing.note(UserId(user), credential, f"{method} {_TYPE.sub('}', scope['path_template'])}", action)

    return note


class Audited(msgspec.Struct, frozen=True):
    """Reads and pushes stand once an hour, under its start; changes one by one."""

    at: datetime
    action: Action
    credential: str
    route: str


EXAMPLE = Audited(
    datetime.fromisoformat("2025-04-26T14:00:00Z"), Action.READ, "key:7f3k2m9qx1ab", "GET /api/bg/{user_id}/latest"
)


def _shown(records: Sequence[Record]) -> list[Audited]:
    return [Audited(each.at.replace(microsecond=0), each.action, each.credential, each.route) for each in records]


@get(
    operation_id="audit",
    summary="Who read or changed a user's data",
    opt=needs(credentials.Scope.ADMIN),
    responses={200: answers(list[Audited], [EXAMPLE], description="Ascending."), **problems(400, 401, 503)},
)
async def audit(
    request: Request[Any, Any, Any],
    auditing: Use[Auditing],
    reader: Use[Reader],
    user: Annotated[str, QueryParameter(name="user", description="Our own id of the person, erased or not.")] = "",
    from_: Annotated[str | None, QueryParameter(name="from", description="A time; 30 days before `to`.")] = None,
    to: Annotated[str | None, QueryParameter(name="to", description="A time, not included; now.")] = None,
) -> Response[Any]:
    """It is written a second after what it is about. Streamed; no record names a user."""
    if not is_user_id(user):
        raise refusal(400, "invalid-user-id", "Say whose audit: ?user= and a user id.")
    end = instant("to", to) or reader.now()
    start = instant("from", from_) or end - USUAL_LENGTH
    if start >= end:
        raise refusal(400, "invalid-range", "'from' must be before 'to': leave both out for the last 30 days.")
    concerns(request.scope, UserId(user))
    batches: AsyncGenerator[Sequence[Any]] = auditing.of(UserId(user), Window(start, end))
    return Streamed(pieces(batches, _shown, JSON), media_type=JSON.media_type, headers={"Cache-Control": "no-store"})


router = Router("/api/audit", route_handlers=[audit], tags=["audit"])
