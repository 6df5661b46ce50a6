"""The HTTP application: its routes, and the checks and headers that all of them share."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from litestar import Litestar
from litestar.datastructures import State
from litestar.handlers import ASGIRouteHandler, asgi
from litestar.types import ASGIApp

from bg_ingest import __version__
from bg_ingest.api import (
    changes,
    completeness,
    connections,
    datasets,
    diagnosis,
    health,
    many_users,
    page,
    readings,
    statistics,
    user_list,
    users,
    webhooks,
)
from bg_ingest.api.auth import DEFAULT_LIMITS, EXCEPTION_HANDLERS, Access, AccessControl, AuthGuard, Limits
from bg_ingest.api.dependencies import RouteOptions, provide_services, resolve_without_tasks
from bg_ingest.api.entry import Api
from bg_ingest.api.fairness import Admission, LongAnswers
from bg_ingest.api.health import Exposition
from bg_ingest.api.local_access import LocalOnly
from bg_ingest.api.openapi import build_config
from bg_ingest.api.validation import MAX_BODY_BYTES, BodyReader, validate_request
from bg_ingest.api.webhook_auth import WebhookGuard
from bg_ingest.domain.local_access import LocalAccess
from bg_ingest.ports import ProcessHealth

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


def build_state(
    *,
    access: Access,
    process_health: ProcessHealth,
    own_names: Collection[str] = (),
    proxied: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    signing_secrets: Sequence[str] = (),
    webhook_limits: Limits | None = None,
    exposition: Exposition | None = None,
    page_enabled: bool = True,
) -> State:
    """Return the state shared by all requests. The lifespan adds the services to it as `state.services`.

    `LocalAccess` with `own_names` and `proxied` decides about requests to mounted applications. With `Access.OPEN` it
    decides about all other requests too, while there is no API key and no token issuer.
    Without signing secrets (`whsec_…`) every signed webhook is refused. Without an `exposition` there is no
    /metrics. Without ``page_enabled`` there is no page at `/`.
    """
    local_access = LocalAccess(own_names, proxied=proxied)
    auth_guard = AuthGuard(access, local_access, limits)
    shared = {
        "process_health": process_health,
        "local_access": local_access,
        "auth_guard": auth_guard,
        "admission": Admission(auth_guard),
        "long_answers": LongAnswers(),
        "dataset_slots": datasets.DatasetSlots(),
        "body_reader": BodyReader(),
        "webhook_guard": WebhookGuard(signing_secrets, webhook_limits),
        "exposition": exposition,
        "page_files": page.load_files() if page_enabled else page.PageFiles(),
    }
    return State(shared)


def create_api(
    state: State, *, lifespan: Sequence[Lifespan] = (), mounts: Mapping[str, ASGIApp] | None = None
) -> Litestar:
    """Assemble the application. `mounts` maps paths to applications without authentication, behind `LocalAccess`."""
    api = Api(
        route_handlers=[
            readings.router,
            completeness.router,
            statistics.router,
            changes.router,
            many_users.router,
            datasets.router,
            user_list.router,
            webhooks.router,
            connections.router,
            connections.callback_router,
            diagnosis.router,
            users.router,
            users.audit_router,
            page.router,
            health.router,
            health.workers_router,
            *([health.metrics_router] if state.exposition else []),
            *(_mount(path, LocalOnly(app, state.local_access)) for path, app in (mounts or {}).items()),
        ],
        state=state,
        dependencies=provide_services(state),
        middleware=[AccessControl],
        before_request=validate_request,
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=list(lifespan),
        openapi_config=build_config(__version__, with_scripts=state.page_files.index is not None),
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,  # requests contain OAuth codes and user ids: our own log lines show only selected parts
        debug=False,
        pdb_on_exception=False,
    )
    resolve_without_tasks(api.routes)
    return api


def _mount(path: str, app: ASGIApp) -> ASGIRouteHandler:
    return asgi(path, is_mount=True, copy_scope=True, opt=RouteOptions(public=True, any_origin=True).opt())(app)
