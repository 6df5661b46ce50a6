"""A user as a whole: export and erasure."""

from typing import Any

from litestar import Response, Router, delete, get

from bg_ingest.api.dependencies import Use, User
from bg_ingest.api.formats import NDJSON, encode_stream
from bg_ingest.api.routes import RouteOptions, responses
from bg_ingest.api.streaming import StreamedResponse
from bg_ingest.domain.access import Scope
from bg_ingest.domain.commits import ErasureCounts
from bg_ingest.services.connections.erase import Eraser
from bg_ingest.services.connections.export import Exporter

EXAMPLE = ErasureCounts(25_920, 312, 1, 1, 4, 0, 1, 0)


@delete(
    "/{user_id:str}",
    operation_id="erase_user",
    opt=RouteOptions(scope=Scope.ADMIN).opt(),
    summary="Erase a user",
    status_code=200,
    responses=responses(
        ErasureCounts,
        EXAMPLE,
        description="Numbers of removed items by kind; zeros if none was left.",
        problems=(400, 401, 404, 503),
    ),
)
async def erase(user_id: User, eraser: Use[Eraser]) -> Response[ErasureCounts]:
    """From the start of the erasure nothing of the user can be written. After a 503 repeat it: it continues.

    Only a new connect creates the user again.
    """
    return Response(await eraser.erase(user_id), headers={"Cache-Control": "no-store"})


EXPORT_EXAMPLE = (
    '{"kind":"user","user_id":"ada","exported_at":"2025-04-26T14:35:12Z"}\n'
    '{"kind":"reading","reading":{"measured_at":"2025-04-26T14:30:00Z","glucose_mg_dl":110},"change":42,"earlier":[]}\n'
    '{"kind":"end","rows":2}\n'
)


@get(
    "/{user_id:str}/export",
    operation_id="export_user",
    summary="Export of all data of a user",
    opt=RouteOptions(scope=Scope.ADMIN).opt(),
    media_type=NDJSON.media_type,
    responses=responses(
        str,
        EXPORT_EXAMPLE,
        description="One JSON object a line, each with its kind; the last one is the end.",
        media_type=NDJSON.media_type,
        problems=(400, 401, 404, 503),
    ),
)
async def export(user_id: User, exporter: Use[Exporter]) -> Response[Any]:
    """Streamed. With an admin credential for that user alone, the person can fetch their own data."""
    await exporter.check_user(user_id)
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": 'attachment; filename="export.ndjson"',
    }
    return StreamedResponse(
        encode_stream(exporter.rows(user_id), list, NDJSON), media_type=NDJSON.media_type, headers=headers
    )


router = Router("/api/users", route_handlers=[erase, export], tags=["users"])
