"""For load balancers and orchestrators: is this process alive, may traffic come."""

import msgspec
from litestar import Response, Router, get

from bg_ingest.api.auth import PUBLIC
from bg_ingest.api.deps import Use
from bg_ingest.api.documented import answers, problems
from bg_ingest.api.errors import Problem, Refused
from bg_ingest.ports import Vitals

_UNSTORED = {"Cache-Control": "no-store"}


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """All is well with this process; ``degraded`` names what is broken outside of it while it still serves."""

    status: str
    degraded: tuple[str, ...] = ()


@get(
    "/live",
    operation_id="live",
    summary="Is the process alive",
    responses={200: answers(Health, Health("live"), description="It is.")},
    sync_to_thread=False,
)
def live() -> Response[Health]:
    """Asks nothing of anybody: restart the process when this does not answer."""
    return Response(Health("live"), headers=_UNSTORED)


@get(
    "/ready",
    operation_id="ready",
    summary="May traffic come here",
    responses={200: answers(Health, Health("ready", ("broker",)), description="It may."), **problems(503)},
    sync_to_thread=False,
)
def ready(vitals: Use[Vitals]) -> Response[Health]:
    """503 with the reasons by name while it starts, drains or cannot serve."""
    reasons = tuple(vitals.unready())
    if reasons:
        detail = "No traffic should come here now: wait until this answers 200."
        raise Refused(Problem("not-ready", "Not ready", 503, detail, reasons))
    return Response(Health("ready", tuple(vitals.degraded())), headers=_UNSTORED)


router = Router("/health", route_handlers=[live, ready], tags=["health"], opt=PUBLIC, security=[{}])
