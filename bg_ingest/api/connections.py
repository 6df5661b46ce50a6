"""Connections of a user: begin one, see how it stands, steer it, end it."""

from litestar import MediaType, Response, Router, delete, get, patch, post
from litestar.params import JSONBody

from bg_ingest.api.auth import needs
from bg_ingest.api.deps import ProviderName, Use, User
from bg_ingest.api.documented import CONNECTION, INVITATION, Answer, answers, problems
from bg_ingest.api.schemas import (
    ConnectionStatus,
    ConnectRequest,
    Invitation,
    WorkerChange,
    settings_of,
    status_of,
)
from bg_ingest.domain.credentials import Scope
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.services.connect import Connecting
from bg_ingest.services.steer import Steering

UNSTORED = {"Cache-Control": "no-store"}
READING, WRITING = needs(Scope.CONNECTIONS_READ), needs(Scope.CONNECTIONS_WRITE)


@post(
    "/{provider:str}",
    operation_id="begin_connect",
    opt=WRITING,
    summary="Begin to connect",
    responses={
        201: answers(Invitation, INVITATION, description="Send the person to authorize_url."),
        **problems(400, 401, 404, 408, 409, 413, 415, 503),
    },
)
async def begin(
    user_id: User,
    provider: ProviderName,
    connecting: Use[Connecting],
    data: JSONBody[ConnectRequest | None] = None,
) -> Response[Invitation]:
    """Nothing changes until the person has allowed access; an existing connection goes on as it is."""
    begun = await connecting.begin(user_id, provider, data.region if data else None)
    return Response(Invitation(begun.authorize_url, begun.expires_at.replace(microsecond=0)), headers=UNSTORED)


@get(
    operation_id="list_connections",
    opt=READING,
    summary="All connections of a user",
    responses={
        200: answers(list[ConnectionStatus], [CONNECTION], description="In no particular order."),
        **problems(400, 401, 404, 503),
    },
)
async def list_connections(user_id: User, steering: Use[Steering]) -> Response[list[ConnectionStatus]]:
    statuses = await steering.of_user(user_id)
    return Response([status_of(each) for each in statuses], headers=UNSTORED)


@get(
    "/{provider:str}",
    operation_id="get_connection",
    opt=READING,
    summary="How a connection stands",
    responses={
        200: answers(ConnectionStatus, CONNECTION, description="Its state, progress and settings."),
        **problems(400, 401, 404, 503),
    },
)
async def get_connection(user_id: User, provider: ProviderName, steering: Use[Steering]) -> Response[ConnectionStatus]:
    return Response(status_of(await steering.status(ConnectionId(user_id, provider))), headers=UNSTORED)


@patch(
    "/{provider:str}/worker",
    operation_id="steer_connection",
    opt=WRITING,
    summary="Change how a connection is polled",
    responses={
        200: answers(ConnectionStatus, CONNECTION, description="How it stands now."),
        **problems(400, 401, 404, 408, 409, 413, 415, 503),
    },
)
async def steer(
    user_id: User, provider: ProviderName, steering: Use[Steering], data: JSONBody[WorkerChange]
) -> Response[ConnectionStatus]:
    """Takes effect without a restart, on whichever replica polls it."""
    status = await steering.change(ConnectionId(user_id, provider), **settings_of(data))
    return Response(status_of(status), headers=UNSTORED)


@post(
    "/{provider:str}/poll",
    operation_id="poll_now",
    opt=WRITING,
    summary="Look at the provider now",
    status_code=202,
    responses={202: Answer(None, description="We look now."), **problems(400, 401, 404, 409, 503)},
)
async def poll_now(user_id: User, provider: ProviderName, steering: Use[Steering]) -> Response[bytes]:
    """Answered before the look; what it brings is seen at latest and range."""
    await steering.poll_now(ConnectionId(user_id, provider))
    return Response(b"", media_type=MediaType.TEXT)


@delete(
    "/{provider:str}",
    operation_id="disconnect",
    opt=WRITING,
    summary="Disconnect",
    responses=problems(400, 401, 404, 409, 503),
)
async def disconnect(user_id: User, provider: ProviderName, steering: Use[Steering]) -> None:
    """Polling stops and the credentials are gone; the readings stay."""
    await steering.disconnect(ConnectionId(user_id, provider))


router = Router(
    "/api/users/{user_id:str}/connections",
    route_handlers=[begin, list_connections, get_connection, steer, poll_now, disconnect],
    tags=["connections"],
)
