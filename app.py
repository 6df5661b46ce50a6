"""The composition root: settings, actors and routes become one ASGI application, ``app``."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from litestar import Litestar

from bg_ingest.api.app import create_api
from bg_ingest.api.auth import Access, Limits
from bg_ingest.errors import StoreError, leaf
from bg_ingest.settings import get_settings
from bg_ingest.telemetry import configure_logging
from bg_ingest.wiring import Services, simulator, wired
from workers.build import Workers
from workers.runtime import leave_process

settings = get_settings()
configure_logging(settings.log_level, settings.log_format)
services, workers = Services(), Workers()


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
            await opened.enter_async_context(wired(settings, services, hints=workers))
            await opened.enter_async_context(workers.running(services))
        except* StoreError as failed:
            log.critical(str(leaf(failed)), action="start_failed")
            leave_process(1)  # a server would show the sentence in two tracebacks
        yield


app = create_api(
    services,
    access=Access.OPEN if settings.anonymous else Access.CLOSED,
    vitals=workers,
    own_names=settings.own_names,
    limits=Limits(settings.requests_per_second, 5 * settings.requests_per_second),
    signing_secrets=[each.get_secret_value() for each in settings.webhook_signing_secrets],
    lifespan=[lifespan],
    mounts=simulator(settings),
)
