"""For load balancers and orchestrators: is this process alive, may traffic come."""

import msgspec
from litestar import Response, Router, get

from bg_ingest.api.dependencies import Use
from bg_ingest.api.problems import Problem, ProblemError
from bg_ingest.api.routes import RouteOptions, responses
from bg_ingest.ports import ProcessHealth

_NO_STORE_HEADERS = {"Cache-Control": "no-store"}


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """All is well with this process; ``degraded`` names what is broken outside of it while it still serves."""

    status: str
    degraded: tuple[str, ...] = ()


@get(
    "/live",
    operation_id="live",
    summary="Is the process alive",
    responses=responses(Health, Health("live"), description="It is."),
    sync_to_thread=False,
)
def live() -> Response[Health]:
    """Asks nothing of anybody: restart the process when this does not answer."""
    return Response(Health("live"), headers=_NO_STORE_HEADERS)


@get(
    "/ready",
    operation_id="ready",
    summary="May traffic come here",
    responses=responses(Health, Health("ready", ("broker",)), description="It may.", problems=(503,)),
    sync_to_thread=False,
)
def ready(process_health: Use[ProcessHealth]) -> Response[Health]:
    """503 with the reasons by name while it starts, drains or cannot serve."""
    reasons = tuple(process_health.unready_reasons())
    if reasons:
        detail = "No traffic should come here now: wait until this answers 200."
        raise ProblemError(Problem("not-ready", "Not ready", 503, detail, reasons))
    return Response(Health("ready", tuple(process_health.degraded_parts())), headers=_NO_STORE_HEADERS)


router = Router(
    "/health", route_handlers=[live, ready], tags=["health"], opt=RouteOptions(public=True).opt(), security=[{}]
)
