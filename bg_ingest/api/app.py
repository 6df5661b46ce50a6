"""The HTTP application: which routes there are, and what holds for all of them."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from litestar import Litestar
from litestar.handlers import ASGIRouteHandler, asgi
from litestar.types import ASGIApp

from bg_ingest import __version__
from bg_ingest.api import (
    audit,
    callback,
    connections,
    health,
    metrics,
    missing,
    readings,
    repairs,
    schema,
    timeline,
    users,
    webhooks,
    workers,
)
from bg_ingest.api.auth import PUBLIC, USUAL_LIMITS, Access, Door, Limits, answers
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
    own_names: Collection[str] = (),
    limits: Limits = USUAL_LIMITS,
    signing_secrets: Sequence[str] = (),
    webhook_limits: Limits | None = None,
    lifespan: Sequence[Lifespan] = (),
    mounts: Mapping[str, ASGIApp] | None = None,
    exposition: Callable[[], Awaitable[bytes]] | None = None,
) -> Litestar:
    """Assemble it. Mounts, by their path, are applications of their own that ask for themselves who it is.

    While nobody is asked for a credential, it answers only to ``own_names``, localhost and addresses. Without signing
    secrets (``whsec_…``) every webhook is refused, without an ``exposition`` there is no /metrics.
    """
    door = Door(access, services, own_names, limits)
    return Litestar(
        route_handlers=[
            readings.router,
            missing.router,
            webhooks.router(signing_secrets, webhook_limits),
            connections.router,
            timeline.router,
            repairs.router,
            users.router,
            audit.router,
            callback.router,
            health.router,
            workers.router,
            *([metrics.router(exposition)] if exposition else []),
            *(_mounted(path, app) for path, app in (mounts or {}).items()),
        ],
        dependencies=provided(services, vitals),
        guards=[door.guard],
        before_request=check,
        before_send=[seal_headers, audit.noting(services)],
        exception_handlers=answers(door),
        lifespan=list(lifespan),
        openapi_config=schema.config(__version__),
        request_max_body_size=LARGEST_BODY,
        logging_config=None,  # what may be logged of a request is decided where it is logged, never by a library
        debug=False,
        pdb_on_exception=False,
    )


def _mounted(path: str, app: ASGIApp) -> ASGIRouteHandler:
    return asgi(path, is_mount=True, copy_scope=True, opt=PUBLIC)(app)
