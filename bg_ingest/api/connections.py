"""Connections of a user: connect, status, settings, poll now, backfill, disconnect."""

from typing import Annotated, Any

import msgspec
from litestar import MediaType, Request, Response, Router, delete, get, patch, post
from litestar.params import JSONBody, QueryParameter

from bg_ingest.api import query
from bg_ingest.api.dependencies import ProviderName, RouteOptions, Use, User
from bg_ingest.api.html import Link, render_page
from bg_ingest.api.openapi import CONNECTION, INVITATION, USER_PROBLEMS, page_responses, problem_responses, responses
from bg_ingest.api.problems import ProblemError, problem_response
from bg_ingest.api.schemas import (
    ConnectionStatus,
    ConnectRequest,
    Invitation,
    Span,
    WorkerChange,
    to_settings,
    to_status,
    whole_seconds,
)
from bg_ingest.api.users import mark_users
from bg_ingest.domain.access import AuditAction, Scope
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.errors import ConnectRefused, NotFound, ProviderThrottled, ProviderUnavailable
from bg_ingest.services.connections.connect import Connector
from bg_ingest.services.connections.manage import ConnectionService


class BackfillRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Half-open window. Each end is RFC 3339 with an offset, or a date (UTC)."""

    from_: query.TimeText | None = None
    to: query.TimeText | None = None


BACKFILL_SPAN = {"from": "2025-01-26T00:00:00Z", "to": "2025-04-26T14:30:00Z"}

_READ = RouteOptions(scope=Scope.CONNECTIONS_READ).opt()
_WRITE = RouteOptions(scope=Scope.CONNECTIONS_WRITE).opt()


@post(
    "/{provider:str}",
    opt=_WRITE,
    summary="Start a connect",
    responses=responses(
        "Send the person to authorize_url.",
        Invitation,
        INVITATION,
        problems=(*USER_PROBLEMS, 408, 409, 413, 415),
        status=201,
    ),
)
async def begin_connect(
    user_id: User, provider: ProviderName, connector: Use[Connector], data: JSONBody[ConnectRequest | None] = None
) -> Invitation:
    """Nothing changes until the person has allowed access; an existing connection continues until then."""
    started = await connector.begin(user_id, provider, data.region if data else None)
    return Invitation(started.authorize_url, whole_seconds(started.expires_at))


@get(
    opt=_READ,
    summary="All connections of a user",
    responses=responses("In no particular order.", list[ConnectionStatus], [CONNECTION], problems=USER_PROBLEMS),
)
async def list_connections(user_id: User, connections: Use[ConnectionService]) -> list[ConnectionStatus]:
    return [to_status(status) for status in await connections.list_statuses(user_id)]


@get(
    "/{provider:str}",
    opt=_READ,
    summary="State of a connection",
    responses=responses("Its state, progress and settings.", ConnectionStatus, CONNECTION, problems=USER_PROBLEMS),
)
async def get_connection(
    user_id: User, provider: ProviderName, connections: Use[ConnectionService]
) -> ConnectionStatus:
    return to_status(await connections.status(ConnectionId(user_id, provider)))


@patch(
    "/{provider:str}/worker",
    opt=_WRITE,
    summary="Change the poll settings of a connection",
    responses=responses(
        "Its new state and settings.", ConnectionStatus, CONNECTION, problems=(*USER_PROBLEMS, 408, 409, 413, 415)
    ),
)
async def update_worker(
    user_id: User, provider: ProviderName, connections: Use[ConnectionService], data: JSONBody[WorkerChange]
) -> ConnectionStatus:
    """The change takes effect without a restart, on any replica."""
    return to_status(await connections.update_worker(ConnectionId(user_id, provider), **to_settings(data)))


@post(
    "/{provider:str}/poll",
    opt=_WRITE,
    summary="Poll the provider now",
    status_code=202,
    responses=responses("The poll is requested.", None, problems=(*USER_PROBLEMS, 409), status=202),
)
async def poll_now(user_id: User, provider: ProviderName, connections: Use[ConnectionService]) -> Response[bytes]:
    """The response is sent before the poll runs. After the poll `GET /api/bg/{user_id}` returns the new readings."""
    await connections.poll_now(ConnectionId(user_id, provider))
    return Response(b"", media_type=MediaType.TEXT)


@post(
    "/{provider:str}/backfill",
    opt=_WRITE,
    summary="Read past readings again",
    status_code=202,
    responses=responses(
        "The window to read, newest part first. The connection's state shows the part not yet read.",
        Span,
        BACKFILL_SPAN,
        problems=(*USER_PROBLEMS, 408, 409, 413, 415),
        status=202,
    ),
)
async def backfill(
    user_id: User,
    provider: ProviderName,
    connections: Use[ConnectionService],
    data: JSONBody[BackfillRequest | None] = None,
) -> Span:
    """By default `from` is the start of the configured backfill, and `to` is now.

    A reading whose value differs from the stored one is recorded as a revision.
    """
    span = data or BackfillRequest()
    start, end = query.parse_instant("from", span.from_), query.parse_instant("to", span.to)
    if start and end:
        query.sent_window(start, end)  # refuses an empty window
    window = await connections.request_backfill(ConnectionId(user_id, provider), start, end)
    return Span(whole_seconds(window.start), whole_seconds(window.end))


@delete("/{provider:str}", opt=_WRITE, summary="Disconnect", responses=problem_responses(*USER_PROBLEMS, 409))
async def disconnect(user_id: User, provider: ProviderName, connections: Use[ConnectionService]) -> None:
    """Stops polling and deletes the credentials; the readings stay."""
    await connections.disconnect(ConnectionId(user_id, provider))


router = Router(
    "/api/users/{user_id:str}/connections",
    route_handlers=[begin_connect, list_connections, get_connection, update_worker, poll_now, backfill, disconnect],
    tags=["connections"],
)


_RESTART_HINT = "Please go back to where you started and begin connecting again. You can close this page."


def _link_back(request: Request[Any, Any, Any]) -> Link | None:
    """Return the link to the page's view of connections; None if the page is disabled.

    The link names no user, because the person at the browser need not be the caller of the API.
    """
    return Link("/#/connect", "Go to the connections of this service") if request.app.state.page_files.index else None


def render_error(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    """Render an error as an HTML page, with the status and Retry-After of its problem details."""
    problem = problem_response(request, error)
    title, hint = "Not connected", _RESTART_HINT
    match error:
        case ConnectRefused():
            text, hint = str(error), "You can close this page."
        case ProblemError() if problem.status_code == 400:
            text = "This link was not made by a provider, and nothing was changed."
        case ProblemError() if problem.status_code == 429:
            title, text = "Not connected yet", "Too many people are using this page at the moment. Nothing is lost."
            hint = "Please load this page again in a few seconds."
        case NotFound() | ProblemError():
            text = "This link leads to an unknown provider."
        case ProviderUnavailable() | ProviderThrottled():
            title = "Not connected yet"
            text = "The provider did not answer. Nothing is lost; try again in a few minutes."
        case _:
            text = "Something went wrong on our side, and nothing was connected."
    headers = {name: value for name, value in problem.headers.items() if name == "Retry-After"}
    return render_page(title, text, hint, link=_link_back(request), status=problem.status_code or 500, headers=headers)


@get(
    "/{provider:str}/callback",
    summary="Finish a connect",
    media_type=MediaType.HTML,
    opt=RouteOptions(
        public=True, any_origin=True, rate_key="callbacks", lenient_query=True, audited_as=AuditAction.CHANGE
    ).opt(),
    security=[{}],
    exception_handlers={Exception: render_error},
    responses=page_responses(200, 400, 404, 429, 500, 502, 503),
)
async def callback(
    request: Request[Any, Any, Any],
    provider: ProviderName,
    connector: Use[Connector],
    code: Annotated[str | None, QueryParameter(name="code")] = None,
    oauth_state: Annotated[
        str | None, QueryParameter(name="state", description="Single-use, valid for 15 minutes.")
    ] = None,
    error: Annotated[
        str | None, QueryParameter(name="error", description="Error code of the provider (RFC 6749, 4.1.2.1).")
    ] = None,
) -> Response[str]:
    """Finish a connect; the page reports the result. Unknown query parameters are ignored (RFC 6749, 4.1.2)."""
    connection = await connector.finish(provider, state=oauth_state or None, code=code or None, error=error or None)
    mark_users(request.scope, [connection.id.user])
    name = connection.id.provider.capitalize()
    text = f"Your {name} readings are on their way: the newest first, then the past. You can close this page."
    return render_page("Connected", text, link=_link_back(request))


callback_router = Router("/api/oauth", route_handlers=[callback], tags=["connections"])
