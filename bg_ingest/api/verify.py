"""Comparison of stored readings with the provider's, for operators."""

from datetime import datetime

import msgspec
from litestar import Response, Router, post
from litestar.params import JSONBody

from bg_ingest.api.connections import NO_STORE_HEADERS, Instant
from bg_ingest.api.dependencies import ProviderName, Use, User
from bg_ingest.api.problems import build_problem
from bg_ingest.api.routes import RouteOptions, responses
from bg_ingest.api.schemas import whole_seconds
from bg_ingest.domain.access import Scope
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.verification import Difference, Verification
from bg_ingest.domain.windows import Window
from bg_ingest.services.queries.verify import Verifier


class Comparison(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Compared window, null if the connection has read nothing in it yet, and the differences."""

    from_: datetime | None
    to: datetime | None
    compared: int
    unreadable: int
    """Records of the provider that are no readings; they are not compared."""
    differences: tuple[Difference, ...]


class VerifyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Window of at most one provider request (30 days). Glucose values are included only with `values`."""

    from_: Instant
    to: Instant
    values: bool = False


COMPARISON = {
    "from": "2025-04-01T00:00:00Z",
    "to": "2025-04-26T14:30:01Z",
    "compared": 7310,
    "unreadable": 0,
    "differences": [
        {
            "kind": "not_stored",
            "measured_at": "2025-04-03T10:15:00Z",
            "device": "g7/iOS",
            "stored_mg_dl": None,
            "provider_mg_dl": None,
        }
    ],
}


@post(
    "/{provider:str}/verify",
    operation_id="verify",
    opt=RouteOptions(scope=Scope.ADMIN).opt(),
    summary="Compare with the provider",
    status_code=200,
    responses=responses(
        Comparison,
        COMPARISON,
        description="Differences between store and provider.",
        problems=(400, 401, 404, 409, 413, 415, 502, 503),
    ),
)
async def verify(
    user_id: User, provider: ProviderName, verifier: Use[Verifier], data: JSONBody[VerifyRequest]
) -> Response[Comparison]:
    """Calls the provider once, with the priority of a repair, and changes nothing."""
    try:
        window = Window(data.from_, data.to)
    except ValueError:
        raise build_problem(400, "invalid-range", "'from' must be before 'to'.") from None
    verification = await verifier.verify(ConnectionId(user_id, provider), window)
    return Response(_to_comparison(verification, values=data.values), headers=NO_STORE_HEADERS)


def _to_comparison(verification: Verification | None, *, values: bool) -> Comparison:
    if verification is None:
        return Comparison(None, None, 0, 0, ())
    window, differences = verification.window, verification.differences
    if not values:
        differences = tuple(difference.without_values() for difference in differences)
    return Comparison(
        whole_seconds(window.start),
        whole_seconds(window.end),
        verification.compared,
        verification.unreadable,
        differences,
    )


router = Router("/api/users/{user_id:str}/connections", route_handlers=[verify], tags=["connections"])
