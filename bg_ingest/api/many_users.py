"""Requests about many users: the changes after a vector of cursors, and the newest readings."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, TypeAlias

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.params import Body, QueryParameter

from bg_ingest.api import changes_examples as examples
from bg_ingest.api import query
from bg_ingest.api.auth import caller_of
from bg_ingest.api.dependencies import RouteOptions, Use
from bg_ingest.api.etags import CACHE_HEADERS, make_etag, not_modified
from bg_ingest.api.event_stream import EVENT_STREAM, stream_changes
from bg_ingest.api.formats import NDJSON, choose_format, encode_stream
from bg_ingest.api.openapi import responses, with_views
from bg_ingest.api.problems import build_problem
from bg_ingest.api.schemas import LatestReading, to_basic_one, to_latest
from bg_ingest.api.streaming import StreamedResponse
from bg_ingest.api.users import mark_users
from bg_ingest.api.validation import check_user
from bg_ingest.domain.access import AuditAction, Scope
from bg_ingest.domain.ids import UserId
from bg_ingest.services.queries.event_hub import EventHub
from bg_ingest.services.queries.many_users import EventOf, Expired, Line, ManyUsersQueries, Snapshot, Unknown
from bg_ingest.services.queries.readings import Latest

AnyRequest: TypeAlias = Request[Any, Any, Any]

MAX_EVENTS = 10_000
MAX_CURSORS, MAX_STREAMED, MAX_LATEST = 1_000, 500, 100


class ChangesRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cursor of each user: the number of the last change that the caller has; null starts at now."""

    after: dict[str, Annotated[int, msgspec.Meta(ge=0, le=999_999_999_999)] | None]
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_EVENTS)] = MAX_EVENTS


@post(
    "/changes",
    operation_id="changes_of_many",
    summary="Changes of many users",
    status_code=200,
    operation_class=with_views({EVENT_STREAM.media_type: examples.STREAM_OF_MANY}),
    responses=responses(
        "One JSON object a line, each with its kind; the last one is the end.",
        str,
        examples.LINES,
        media_type=NDJSON.media_type,
        problems=(400, 401, 406, 408, 413, 415, 503),
    ),
)
async def changes_of_many(
    request: AnyRequest,
    many_users: Use[ManyUsersQueries],
    event_hub: Use[EventHub],
    data: Annotated[ChangesRequest, Body()],
) -> Response[Any]:
    """At most 1,000 users. Merge `after` of the last line into the cursors for the next request.

    As `text/event-stream`, for at most 500 users, the answer stays open. To resume, send the number of the last event
    of each user.
    """
    form = choose_format(request, (NDJSON, EVENT_STREAM))
    max_users = MAX_STREAMED if form is EVENT_STREAM else MAX_CURSORS
    if not 1 <= len(data.after) <= max_users:
        detail = f"'after' names {len(data.after):,} users: send 1 to {max_users:,}."
        raise build_problem(400, "invalid-body", detail)
    for user in data.after:
        check_user(user)
    cursors = {UserId(user): number for user, number in data.after.items()}
    allowed = {user: number for user, number in cursors.items() if _may_access(request, user)}
    forbidden = [Unknown(user) for user in cursors if user not in allowed]
    mark_users(request.scope, allowed)
    if form is EVENT_STREAM:
        return stream_changes(request, event_hub, allowed, forbidden, many=True)
    rows = _many_rows([_public_line(unknown) for unknown in forbidden], many_users.changes(allowed, data.limit))
    return StreamedResponse(
        encode_stream(rows, list, NDJSON), media_type=NDJSON.media_type, headers={"Cache-Control": "no-store"}
    )


async def _many_rows(first: Sequence[Any], lines: AsyncGenerator[Line]) -> AsyncGenerator[Sequence[Any]]:
    if first:
        yield first
    async with aclosing(lines):
        async for line in lines:
            yield [_public_line(line)]


def _public_line(line: Line) -> dict[str, Any]:
    match line:
        case EventOf(event=event):
            return {"kind": "event", "event": msgspec.Raw(event.body)}
        case Snapshot(user, change, latest):
            newest = None if latest is None else _full(latest)
            return {"kind": "snapshot", "user_id": user, "change": change, "latest": newest}
        case Expired(user, first_kept, last):
            return {"kind": "expired", "user_id": user, "first_kept": first_kept, "last": last}
        case Unknown(user):
            return {"kind": "unknown", "user_id": user}
        case _:
            return {"kind": "end", "after": line.after, "more": line.more}


class LatestOfMany(msgspec.Struct, frozen=True):
    """Newest readings in the order of the request, and the users without one."""

    readings: list[dict[str, Any]]
    missing: list[UserId]


@get(
    "/latest",
    operation_id="latest_of_many",
    summary="The newest readings of many users",
    responses=responses("The newest readings.", LatestOfMany, examples.LATEST_OF_MANY, problems=(400, 401, 503)),
)
async def latest_of_many(
    request: AnyRequest,
    many_users: Use[ManyUsersQueries],
    users: Annotated[str, QueryParameter(name="users", description="1 to 100 user ids, separated by commas.")] = "",
    view: query.ViewName = None,
) -> Response[Any]:
    """The answer may be a second old.

    `missing` has unknown users, users without a reading, and users that the credential may not access.
    """
    full = query.is_full_view(view)
    requested = users.split(",")
    for user in requested:
        check_user(user)
    if len(requested) > MAX_LATEST or len(set(requested)) < len(requested):
        raise build_problem(400, "invalid-users", f"'users' has 1 to {MAX_LATEST} distinct ids, separated by commas.")
    allowed = [UserId(user) for user in requested if _may_access(request, UserId(user))]
    mark_users(request.scope, allowed)
    newest = await many_users.latest(allowed) if allowed else {}
    rows = [
        {"user_id": user, **msgspec.to_builtins(_full(newest[user]) if full else to_basic_one(newest[user].newest))}
        for user in map(UserId, requested)
        if user in newest
    ]
    answer = LatestOfMany(rows, [UserId(user) for user in requested if user not in newest])
    changes_shown = [
        (user, latest.head.last_change, latest.newest.reading.measured_at) for user, latest in newest.items()
    ]
    states = [(row["state"], row["next_expected_at"]) for row in rows] if full else []
    headers = {**CACHE_HEADERS, "Vary": "Accept", "ETag": make_etag(request, changes_shown, answer.missing, states)}
    return not_modified(request, headers) or Response(answer, headers=headers)


def _full(latest: Latest) -> LatestReading:
    return to_latest(latest.newest, latest.freshness())


def _may_access(request: AnyRequest, user: UserId) -> bool:
    caller = caller_of(request.scope)
    return caller is not None and caller.may_access(user)


router = Router(
    "/api",
    route_handlers=[changes_of_many, latest_of_many],
    tags=["many users"],
    opt=RouteOptions(scope=Scope.READINGS_READ, many_users=True, audited_as=AuditAction.READ).opt(),
)
