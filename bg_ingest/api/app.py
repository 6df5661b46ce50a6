"""The HTTP application: which routes there are, and what holds for all of them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from litestar import Litestar
from litestar.handlers import ASGIRouteHandler, asgi
from litestar.types import ASGIApp

from bg_ingest import __version__
from bg_ingest.api import callback, connections, health, readings, schema, webhooks, workers
from bg_ingest.api.auth import Access, answers, guard
from bg_ingest.api.checks import LARGEST_BODY, check
from bg_ingest.api.deps import Services, provided
from bg_ingest.api.edge import seal_headers
from bg_ingest.ports import Vitals

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


def create_api(
    services: Services,
    *,
    access: Access,
    vitals: Vitals,
    signing_secrets: Sequence[str] = (),
    lifespan: Sequence[Lifespan] = (),
    mounts: Mapping[str, ASGIApp] | None = None,
) -> Litestar:
    """Assemble it. Mounts, by their path, are applications of their own, guarded by ``access`` like every route.

    Without signing secrets (``whsec_…``) every webhook is refused.
    """
    return Litestar(
        route_handlers=[
            readings.router,
            webhooks.router(signing_secrets),
            connections.router,
            callback.router,
            health.router,
            workers.router,
            *(_mounted(path, app) for path, app in (mounts or {}).items()),
        ],
        dependencies=provided(services, vitals),
        guards=[guard(access)],
        before_request=check,
        before_send=[seal_headers],
        exception_handlers=answers(access),
        lifespan=list(lifespan),
        openapi_config=schema.config(__version__),
        request_max_body_size=LARGEST_BODY,
        logging_config=None,  # what may be logged of a request is decided where it is logged, never by a library
        debug=False,
        pdb_on_exception=False,
    )


def _mounted(path: str, app: ASGIApp) -> ASGIRouteHandler:
    return asgi(path, is_mount=True, copy_scope=True)(app)
