"""A user as a whole, for operators: erasure, export, and the audit log with its route.

The audit log records answers that show or change a user's data, and refused requests for such data.
"""

import re
from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, delete, get
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter
from litestar.types import HTTPScope, Scope

from bg_ingest.api.auth import caller_of
from bg_ingest.api.dependencies import RouteOptions, Use, User
from bg_ingest.api.formats import JSON, NDJSON, encode_stream
from bg_ingest.api.openapi import USER_PROBLEMS, responses
from bg_ingest.api.problems import build_problem
from bg_ingest.api.query import parse_instant
from bg_ingest.api.schemas import whole_seconds
from bg_ingest.api.streaming import StreamedResponse
from bg_ingest.domain import access
from bg_ingest.domain.access import AuditAction, AuditRecord
from bg_ingest.domain.commits import ErasureCounts
from bg_ingest.domain.ids import UserId, is_user_id
from bg_ingest.domain.windows import Window
from bg_ingest.services.access.audit import DEFAULT_WINDOW_LENGTH, AuditLog
from bg_ingest.services.connections.erase import Eraser
from bg_ingest.services.connections.export import Exporter
from bg_ingest.services.queries.readings import ReadingQueries

ERASURE = ErasureCounts(25_920, 312, 1, 1, 4, 0, 1, 0)


@delete(
    "/{user_id:str}",
    summary="Erase a user",
    status_code=200,
    responses=responses(
        "Numbers of removed items by kind; zeros if none was left.", ErasureCounts, ERASURE, problems=USER_PROBLEMS
    ),
)
async def erase_user(user_id: User, eraser: Use[Eraser]) -> ErasureCounts:
    """From the start of the erasure nothing of the user can be written. After a 503, repeat the request to continue.

    Only a new connect creates the user again.
    """
    return await eraser.erase(user_id)


EXPORT = (
    '{"kind":"user","user_id":"ada","exported_at":"2025-04-26T14:35:12Z"}\n'
    '{"kind":"reading","reading":{"measured_at":"2025-04-26T14:30:00Z","glucose_mg_dl":110},"change":42,"earlier":[]}\n'
    '{"kind":"end","rows":2}\n'
)


@get(
    "/{user_id:str}/export",
    summary="Export of all data of a user",
    media_type=NDJSON.media_type,
    responses=responses(
        "One JSON object a line, each with its kind; the last one is the end.",
        str,
        EXPORT,
        media_type=NDJSON.media_type,
        problems=USER_PROBLEMS,
    ),
)
async def export_user(user_id: User, exporter: Use[Exporter]) -> Response[Any]:
    """Streamed. With an admin credential for that user alone, the person can fetch their own data."""
    await exporter.check_user(user_id)
    headers = {"Content-Disposition": 'attachment; filename="export.ndjson"'}
    return StreamedResponse(
        encode_stream(exporter.rows(user_id), list, NDJSON), media_type=NDJSON.media_type, headers=headers
    )


REFUSALS = {401, 403}
"""Statuses that always mean a refusal. A 404 means a refusal only if `refused` is set in the request's state: a user
outside the caller's permission is answered like an unknown user."""

_PATH_TYPE = re.compile(r":\w+}")


def mark_users(scope: Scope, users: Collection[UserId]) -> None:
    """Set the audited users of a request without a user in its path."""
    scope["state"]["audited_users"] = tuple(users)


def mark_credential(scope: Scope, credential: str) -> None:
    """Set the audited credential of a request without a caller: the sender of a webhook."""
    scope["state"]["audited_credential"] = credential


@lru_cache
def audited_route(method: str, path_template: str) -> str:
    """Return the method and the path of a request as the audit log has them."""
    return f"{method} {_PATH_TYPE.sub('}', path_template)}"


def record_access(scope: HTTPScope, status: int) -> None:
    """Record in the audit log an answer that shows or changed a user's data, and a refused request for such data.

    The record is made when the answer starts. Other errors show nothing and are not recorded.
    """
    refused = status in REFUSALS or scope["state"].get("refused", False)
    route: BaseRouteHandler | None = scope.get("route_handler")
    in_path = scope.get("path_params", {}).get("user_id")
    users = scope["state"].get("audited_users") or ([in_path] if in_path else [])
    method = scope["method"]
    if route is None or not users or method == "OPTIONS" or not (refused or status < 400):
        return
    route_text = audited_route(method, scope["path_template"])
    audit_log: AuditLog = scope["litestar_app"].state.services.audit_log
    caller = caller_of(scope)
    credential = caller.name if caller else scope["state"].get("audited_credential", "oauth-state")
    if not refused:
        by_method = AuditAction.READ if method in {"GET", "HEAD"} else AuditAction.CHANGE
        for user in users:
            audit_log.add(UserId(user), credential, route_text, RouteOptions.of(route).audited_as or by_method)
        return
    client = scope.get("client")
    sender = credential if caller else f"address:{client[0] if client else 'unknown'}"
    for user in filter(is_user_id, users):
        audit_log.add_refusal(UserId(user), sender, route_text)


class AuditLine(msgspec.Struct, frozen=True):
    """One audit record.

    Each change has its own record. Equal reads, pushes or refusals of an hour share a record at the start of the hour.
    """

    at: datetime
    action: AuditAction
    credential: str
    route: str


AUDIT_LINE = AuditLine(
    datetime.fromisoformat("2025-04-26T14:00:00Z"), AuditAction.READ, "key:7f3k2m9qx1ab", "GET /api/bg/{user_id}/latest"
)


def _to_lines(records: Sequence[AuditRecord]) -> list[AuditLine]:
    return [AuditLine(whole_seconds(record.at), record.action, record.credential, record.route) for record in records]


@get(
    summary="Audit records of a user",
    responses=responses("Ascending audit records.", list[AuditLine], [AUDIT_LINE], problems=(400, 401, 503)),
)
async def audit(
    request: Request[Any, Any, Any],
    audit_log: Use[AuditLog],
    reader: Use[ReadingQueries],
    user: Annotated[str, QueryParameter(name="user", description="Id of the user, who may have been erased.")] = "",
    from_: Annotated[
        str | None, QueryParameter(name="from", description="A time. 30 days before `to` by default.")
    ] = None,
    to: Annotated[str | None, QueryParameter(name="to", description="A time, exclusive. Now by default.")] = None,
) -> Response[Any]:
    """Accesses to a user's data, streamed. An access is recorded within a second. Records contain no user id."""
    if not is_user_id(user):
        raise build_problem(400, "invalid-user-id", "Send the user whose audit you need: ?user= and a user id.")
    end = parse_instant("to", to) or reader.now()
    start = parse_instant("from", from_) or end - DEFAULT_WINDOW_LENGTH
    if start >= end:
        raise build_problem(400, "invalid-range", "'from' must be before 'to': leave both out for the last 30 days.")
    mark_users(request.scope, [UserId(user)])
    batches: AsyncGenerator[Sequence[Any]] = audit_log.records(UserId(user), Window(start, end))
    return StreamedResponse(encode_stream(batches, _to_lines, JSON), media_type=JSON.media_type)


_ADMIN = RouteOptions(scope=access.Scope.ADMIN).opt()

router = Router("/api/users", route_handlers=[erase_user, export_user], tags=["users"], opt=_ADMIN)
audit_router = Router("/api/audit", route_handlers=[audit], tags=["audit"], opt=_ADMIN)
