"""List of all users, for pipelines that read the data of every user."""

import re
from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, Router, get
from litestar.params import QueryParameter
from msgspec import UNSET, UnsetType

from bg_ingest.api import query
from bg_ingest.api.changes import MAX_EVENTS, parse_limit
from bg_ingest.api.dependencies import RouteOptions, Use
from bg_ingest.api.openapi import responses
from bg_ingest.api.problems import build_problem
from bg_ingest.domain.access import Scope
from bg_ingest.domain.freshness import FreshnessState
from bg_ingest.domain.ids import SHARDS, UserId, is_user_id
from bg_ingest.services.queries.users import UserCursor, UserQueries

EXAMPLE = {"users": [{"user_id": "ada"}, {"user_id": "ben"}], "after": "3.ben", "more": True}
DESCRIBED_EXAMPLE = EXAMPLE | {
    "users": [{"user_id": "ada", "change": 217, "newest_reading_at": "2025-04-26T14:30:00Z", "state": "live"}]
}


class UserRow(msgspec.Struct, frozen=True):
    """A user; `view=full` has all fields."""

    user_id: UserId
    change: int | UnsetType = UNSET
    newest_reading_at: datetime | UnsetType | None = UNSET
    state: FreshnessState | UnsetType | None = UNSET
    """Null without readings."""


class Users(msgspec.Struct, frozen=True):
    """Part of the list of users, in no particular order."""

    users: list[UserRow]
    after: str
    """Cursor of the next request."""
    more: bool


DEFAULT_USERS = 100

_CURSOR = re.compile(r"(?P<shard>[0-9]{1,3})\.(?P<user>.*)\Z", re.DOTALL)


@get(
    operation_id="users",
    summary="List of users",
    responses=responses("Users, page by page.", Users, EXAMPLE, DESCRIBED_EXAMPLE, problems=(400, 401, 503)),
)
async def list_users(
    user_list: Use[UserQueries],
    after: Annotated[str | None, QueryParameter(name="after", description="`after` of the last answer.")] = None,
    limit: Annotated[
        str | None,
        QueryParameter(
            name="limit", description=f"Largest number of users, 1 to {MAX_EVENTS:,}. {DEFAULT_USERS} by default."
        ),
    ] = None,
    view: query.ViewName = None,
) -> Response[Users]:
    """Users with a connection or readings, also disconnected ones. A user added between two pages may be missing."""
    page = await user_list.page(_parse_cursor(after), parse_limit(limit, DEFAULT_USERS))
    rows = [UserRow(user) for user in page.users]
    if query.is_full_view(view):
        described = await user_list.describe(page.users)
        rows = [UserRow(user.user_id, user.change, user.newest_reading_at, user.state) for user in described]
    return Response(Users(rows, f"{page.after.shard}.{page.after.user or ''}", page.more))


def _parse_cursor(text: str | None) -> UserCursor:
    parts = _CURSOR.match(text or "0.")
    if parts is None or int(parts["shard"]) >= SHARDS or not (parts["user"] == "" or is_user_id(parts["user"])):
        raise build_problem(400, "invalid-after", "'after' is no cursor of this list: send the one of the last answer.")
    return UserCursor(int(parts["shard"]), UserId(parts["user"]) if parts["user"] else None)


router = Router(
    "/api/users", route_handlers=[list_users], tags=["many users"], opt=RouteOptions(scope=Scope.READINGS_READ).opt()
)
