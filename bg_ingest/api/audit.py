"""Audit log: one record for each answer that shows or changes a user's data, and GET /api/audit for operators."""

import re
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, get
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter
from litestar.types import Message, Scope

from bg_ingest.api.auth import caller_of
from bg_ingest.api.dependencies import Use
from bg_ingest.api.formats import JSON, encode_stream
from bg_ingest.api.problems import build_problem
from bg_ingest.api.query import parse_instant
from bg_ingest.api.routes import RouteOptions, responses
from bg_ingest.api.schemas import whole_seconds
from bg_ingest.api.streaming import StreamedResponse
from bg_ingest.domain import access
from bg_ingest.domain.access import AuditAction, AuditRecord
from bg_ingest.domain.ids import UserId, is_user_id
from bg_ingest.domain.windows import Window
from bg_ingest.services.access.audit import DEFAULT_WINDOW_LENGTH, AuditLog
from bg_ingest.services.queries.readings import ReadingQueries

_PATH_TYPE = re.compile(r":\w+}")
_READ_METHODS = {"GET", "HEAD"}


def mark_user(scope: Scope, user: UserId) -> None:
    """Name the user of a request whose path has none."""
    scope["state"]["audited_user"] = user


async def record_access(message: Message, scope: Scope) -> None:
    """Add an answer that shows or changed a user's data to the audit log as it starts; refusals show nothing."""
    if message["type"] != "http.response.start" or message["status"] >= 400:
        return
    route: BaseRouteHandler | None = scope.get("route_handler")
    user = scope["state"].get("audited_user") or scope.get("path_params", {}).get("user_id")
    method = scope.get("method")
    if route is None or not user or method == "OPTIONS":
        return
    caller = caller_of(scope)
    by_method = AuditAction.READ if method in _READ_METHODS else AuditAction.CHANGE
    action = RouteOptions.of(route).audited_as or by_method
    credential = caller.name if caller else "signature" if action is AuditAction.PUSH else "oauth-state"
    route_text = f"{method} {_PATH_TYPE.sub('}', scope['path_template'])}"
    audit_log: AuditLog = scope["litestar_app"].state.services.audit_log
    audit_log.add(UserId(user), credential, route_text, action)


class AuditLine(msgspec.Struct, frozen=True):
    """One audit record. Reads and pushes are merged per hour, under its start; changes are single records."""

    at: datetime
    action: AuditAction
    credential: str
    route: str


EXAMPLE = AuditLine(
    datetime.fromisoformat("2025-04-26T14:00:00Z"), AuditAction.READ, "key:7f3k2m9qx1ab", "GET /api/bg/{user_id}/latest"
)


def _to_lines(records: Sequence[AuditRecord]) -> list[AuditLine]:
    return [AuditLine(whole_seconds(record.at), record.action, record.credential, record.route) for record in records]


@get(
    operation_id="audit",
    summary="Audit records of a user",
    opt=RouteOptions(scope=access.Scope.ADMIN).opt(),
    responses=responses(list[AuditLine], [EXAMPLE], description="Ascending.", problems=(400, 401, 503)),
)
async def audit(
    request: Request[Any, Any, Any],
    audit_log: Use[AuditLog],
    reader: Use[ReadingQueries],
    user: Annotated[str, QueryParameter(name="user", description="Our own id of the person, erased or not.")] = "",
    from_: Annotated[str | None, QueryParameter(name="from", description="A time; 30 days before `to`.")] = None,
    to: Annotated[str | None, QueryParameter(name="to", description="A time, not included; now.")] = None,
) -> Response[Any]:
    """Accesses to a user's data. Records are written within a second, streamed here, and contain no user id."""
    if not is_user_id(user):
        raise build_problem(400, "invalid-user-id", "Send the user whose audit you need: ?user= and a user id.")
    end = parse_instant("to", to) or reader.now()
    start = parse_instant("from", from_) or end - DEFAULT_WINDOW_LENGTH
    if start >= end:
        raise build_problem(400, "invalid-range", "'from' must be before 'to': leave both out for the last 30 days.")
    mark_user(request.scope, UserId(user))
    batches: AsyncGenerator[Sequence[Any]] = audit_log.records(UserId(user), Window(start, end))
    return StreamedResponse(
        encode_stream(batches, _to_lines, JSON), media_type=JSON.media_type, headers={"Cache-Control": "no-store"}
    )


router = Router("/api/audit", route_handlers=[audit], tags=["audit"])
