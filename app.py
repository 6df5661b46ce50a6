"""The composition root: settings, actors and routes become one ASGI application, ``app``."""

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from litestar import Litestar

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.api.app import create_api
from bg_ingest.api.auth import Access, Limits
from bg_ingest.api.logs import InRequests, add_request
from bg_ingest.errors import IngestError, leaf
from bg_ingest.metrics.exposition import exposed
from bg_ingest.metrics.http import MeasuredApp
from bg_ingest.metrics.standing import Standing
from bg_ingest.settings import get_settings
from bg_ingest.telemetry import configure_logging
from bg_ingest.wiring import Services, wired
from bg_ingest.wiring_providers import simulator
from workers.build import Workers
from workers.runtime import leave_process

settings = get_settings()
configure_logging(settings.log_level, settings.log_format, [add_request])
services, workers = Services(), Workers()
services.measures.add(Standing(workers, SystemClock()))


@asynccontextmanager
async def lifespan(_: Litestar) -> AsyncIterator[None]:
    """Open the store, start the actors; on the way out drain and close."""
    log = structlog.get_logger()
    for line in settings.fallbacks():
        log.info(line, action="settings")
    for line in settings.notes:
        log.warning(line, action="settings")
    async with AsyncExitStack() as opened:
        try:
            opened.enter_context(exposed(services.measures, settings.host, settings.metrics_port))
            await opened.enter_async_context(wired(settings, services, hints=workers))
            gc.freeze()  # what is loaded by now stays: looking through it for garbage stopped the loop
            await opened.enter_async_context(workers.running(services))
        except* IngestError as failed:
            log.critical(str(leaf(failed)), action="start_failed")
            leave_process(1)  # a server would show the sentence in two tracebacks
        yield


api = create_api(
    services,
    access=Access.OPEN if settings.anonymous else Access.CLOSED,
    vitals=workers,
    own_names=settings.own_names,
    limits=Limits(settings.requests_per_second, 5 * settings.requests_per_second),
    signing_secrets=[each.get_secret_value() for each in settings.webhook_signing_secrets],
    webhook_limits=Limits(settings.webhooks_per_second, 2 * settings.webhooks_per_second),
    lifespan=[lifespan],
    mounts=simulator(settings),
    exposition=None if settings.metrics_port else services.measures.exposition,
)
app = InRequests(MeasuredApp(api, services.measures))
