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
    readings,
    timeline,
    users,
    webhooks,
    workers,
)
from bg_ingest.api import (
    gaps as missing,
)
from bg_ingest.api import (
    openapi as schema,
)
from bg_ingest.api import (
    verify as repairs,
)
from bg_ingest.api.auth import DEFAULT_LIMITS, PUBLIC, Access, AuthGuard, Limits, exception_handlers
from bg_ingest.api.dependencies import Services, provide
from bg_ingest.api.headers import add_headers
from bg_ingest.api.validation import MAX_BODY_BYTES, validate_request
from bg_ingest.ports import ProcessHealth

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


def create_api(
    services: Services,
    *,
    access: Access,
    process_health: ProcessHealth,
    own_names: Collection[str] = (),
    limits: Limits = DEFAULT_LIMITS,
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
    auth_guard = AuthGuard(access, services, own_names, limits)
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
            *(_mount(path, app) for path, app in (mounts or {}).items()),
        ],
        dependencies=provide(services, process_health),
        guards=[auth_guard.check],
        before_request=validate_request,
        before_send=[add_headers, audit.audit_hook(services)],
        exception_handlers=exception_handlers(auth_guard),
        lifespan=list(lifespan),
        openapi_config=schema.build_config(__version__),
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,  # what may be logged of a request is decided where it is logged, never by a library
        debug=False,
        pdb_on_exception=False,
    )


def _mount(path: str, app: ASGIApp) -> ASGIRouteHandler:
    return asgi(path, is_mount=True, copy_scope=True, opt=PUBLIC)(app)
