"""Connections of a user: connect, status, settings, poll now, backfill, disconnect."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import MediaType, Response, Router, delete, get, patch, post
from litestar.params import JSONBody

from bg_ingest.api.dependencies import ProviderName, Use, User
from bg_ingest.api.openapi import CONNECTION, INVITATION
from bg_ingest.api.routes import RouteOptions, problem_responses, responses
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
from bg_ingest.domain.access import Scope
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.services.connections.connect import Connector
from bg_ingest.services.connections.manage import BackfillRequester, ConnectionService

Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class BackfillRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A half-open window of time; both ends in RFC 3339 with an offset."""

    from_: Instant | None = None
    to: Instant | None = None


MARKED_SPAN = {"from": "2025-01-26T00:00:00Z", "to": "2025-04-26T14:30:00Z"}


NO_STORE_HEADERS = {"Cache-Control": "no-store"}


@post(
    "/{provider:str}",
    operation_id="begin_connect",
    opt=RouteOptions(scope=Scope.CONNECTIONS_WRITE).opt(),
    summary="Start a connect",
    responses=responses(
        Invitation,
        INVITATION,
        description="Send the person to authorize_url.",
        problems=(400, 401, 404, 408, 409, 413, 415, 503),
        status=201,
    ),
)
async def begin_connect(
    user_id: User,
    provider: ProviderName,
    connector: Use[Connector],
    data: JSONBody[ConnectRequest | None] = None,
) -> Response[Invitation]:
    """Nothing changes until the person has allowed access; an existing connection continues until then."""
    started = await connector.begin(user_id, provider, data.region if data else None)
    return Response(
        Invitation(started.authorize_url, started.expires_at.replace(microsecond=0)), headers=NO_STORE_HEADERS
    )


@get(
    operation_id="list_connections",
    opt=RouteOptions(scope=Scope.CONNECTIONS_READ).opt(),
    summary="All connections of a user",
    responses=responses(
        list[ConnectionStatus], [CONNECTION], description="In no particular order.", problems=(400, 401, 404, 503)
    ),
)
async def list_connections(user_id: User, connections: Use[ConnectionService]) -> Response[list[ConnectionStatus]]:
    statuses = await connections.list_statuses(user_id)
    return Response([to_status(status) for status in statuses], headers=NO_STORE_HEADERS)


@get(
    "/{provider:str}",
    operation_id="get_connection",
    opt=RouteOptions(scope=Scope.CONNECTIONS_READ).opt(),
    summary="State of a connection",
    responses=responses(
        ConnectionStatus, CONNECTION, description="Its state, progress and settings.", problems=(400, 401, 404, 503)
    ),
)
async def get_connection(
    user_id: User, provider: ProviderName, connections: Use[ConnectionService]
) -> Response[ConnectionStatus]:
    return Response(to_status(await connections.status(ConnectionId(user_id, provider))), headers=NO_STORE_HEADERS)


@patch(
    "/{provider:str}/worker",
    operation_id="steer_connection",
    opt=RouteOptions(scope=Scope.CONNECTIONS_WRITE).opt(),
    summary="Change how a connection is polled",
    responses=responses(
        ConnectionStatus,
        CONNECTION,
        description="Its new state and settings.",
        problems=(400, 401, 404, 408, 409, 413, 415, 503),
    ),
)
async def update_worker(
    user_id: User, provider: ProviderName, connections: Use[ConnectionService], data: JSONBody[WorkerChange]
) -> Response[ConnectionStatus]:
    """Takes effect without a restart, on whichever replica polls it."""
    status = await connections.update_worker(ConnectionId(user_id, provider), **to_settings(data))
    return Response(to_status(status), headers=NO_STORE_HEADERS)


@post(
    "/{provider:str}/poll",
    operation_id="poll_now",
    opt=RouteOptions(scope=Scope.CONNECTIONS_WRITE).opt(),
    summary="Poll the provider now",
    status_code=202,
    responses=responses(None, description="The poll is requested.", problems=(400, 401, 404, 409, 503), status=202),
)
async def poll_now(user_id: User, provider: ProviderName, connections: Use[ConnectionService]) -> Response[bytes]:
    """Answered before the poll runs; its readings appear at latest and range."""
    await connections.poll_now(ConnectionId(user_id, provider))
    return Response(b"", media_type=MediaType.TEXT)


@post(
    "/{provider:str}/backfill",
    operation_id="backfill",
    opt=RouteOptions(scope=Scope.CONNECTIONS_WRITE).opt(),
    summary="Read past readings again",
    status_code=202,
    responses=responses(
        Span,
        MARKED_SPAN,
        description="The window to read, newest first; the connection shows the rest of it.",
        problems=(400, 401, 404, 409, 413, 415, 503),
        status=202,
    ),
)
async def backfill(
    user_id: User,
    provider: ProviderName,
    backfill_requester: Use[BackfillRequester],
    data: JSONBody[BackfillRequest | None] = None,
) -> Response[Span]:
    """A missing `from` is the start of the configured backfill, a missing `to` is now. Known readings do not change."""
    span = data or BackfillRequest()
    marked = await backfill_requester.request_backfill(ConnectionId(user_id, provider), span.from_, span.to)
    return Response(Span(whole_seconds(marked.start), whole_seconds(marked.end)), headers=NO_STORE_HEADERS)


@delete(
    "/{provider:str}",
    operation_id="disconnect",
    opt=RouteOptions(scope=Scope.CONNECTIONS_WRITE).opt(),
    summary="Disconnect",
    responses=problem_responses(400, 401, 404, 409, 503),
)
async def disconnect(user_id: User, provider: ProviderName, connections: Use[ConnectionService]) -> None:
    """Stops polling and deletes the credentials; the readings stay."""
    await connections.disconnect(ConnectionId(user_id, provider))


router = Router(
    "/api/users/{user_id:str}/connections",
    route_handlers=[begin_connect, list_connections, get_connection, update_worker, poll_now, backfill, disconnect],
    tags=["connections"],
)
