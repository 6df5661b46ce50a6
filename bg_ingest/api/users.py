"""A user as a whole: erased."""

import msgspec
from litestar import Response, Router, delete

from bg_ingest.api.auth import needs
from bg_ingest.api.deps import Use, User
from bg_ingest.api.documented import answers, problems
from bg_ingest.domain.credentials import Scope
from bg_ingest.domain.erasure import Removed
from bg_ingest.services.erase import Erasing


class Erasure(msgspec.Struct, frozen=True):
    """How much was removed, by kind; ``changes`` are the user's events on record, told or not."""

    readings: int
    changes: int
    connections: int
    grants: int
    gaps: int
    quarantined: int
    keys: int
    others: int


EXAMPLE = Erasure(25_920, 312, 1, 1, 4, 0, 1, 0)


@delete(
    "/{user_id:str}",
    operation_id="erase_user",
    opt=needs(Scope.ADMIN),
    summary="Erase a user",
    status_code=200,
    responses={
        200: answers(Erasure, EXAMPLE, description="What was removed; zeros when nothing was left."),
        **problems(400, 401, 404, 503),
    },
)
async def erase(user_id: User, erasing: Use[Erasing]) -> Response[Erasure]:
    """From its first moment on nothing of the user can be written. After a 503 send it again: it goes on.

    The user comes back only by connecting again.
    """
    removed: Removed = await erasing.erase(user_id)
    return Response(Erasure(**msgspec.structs.asdict(removed)), headers={"Cache-Control": "no-store"})


router = Router("/api/users", route_handlers=[erase], tags=["users"])
