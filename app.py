"""ASGI application `app`: settings, routes, and a lifespan that opens the services and runs the actors."""

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio.to_thread
import structlog
from litestar import Litestar

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.api.app import build_state, create_api
from bg_ingest.api.auth import Access, Limits
from bg_ingest.api.log_context import RequestContext, add_request
from bg_ingest.api.openapi import render_documents
from bg_ingest.errors import IngestError, first_error
from bg_ingest.observability.http import RequestMetrics
from bg_ingest.observability.logs import configure_logging
from bg_ingest.observability.metrics_port import serve_metrics
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.observability.replica import ReplicaCollector
from bg_ingest.settings import get_settings
from bg_ingest.settings.environment import clean_proxies
from bg_ingest.wiring import open_services
from bg_ingest.wiring.providers import simulator_mounts
from workers.build import Workers
from workers.runtime import exit_process

GC_THRESHOLDS = (5_000, 2, 70)
"""The collector of reference cycles takes 0.3 % of the CPU time of webhooks, instead of 3 % with (700, 2, 500), and its
collections of the young and middle generations stop the loop no longer than with that: for up to 4 ms on a busy
machine. Full collections are ten times rarer than by default. With 500 open requests, one stops the loop for 50 ms."""

SQLITE_SWITCH_INTERVAL = 0.0001
"""Seconds after which a busy event loop yields the interpreter to another thread. A read of the embedded store needs
the interpreter about six times. With the default it waits for 5 ms each time. With 0.1 ms, ranges of 14 days take 10 %
longer in this store. DynamoDB is called without threads, so the default stays: with 0.1 ms, latest takes 7 to 17 %
longer."""

settings = get_settings()
clean_proxies()
metrics, workers = MetricsRegistry(), Workers()
configure_logging(settings.log_level, settings.log_format, [add_request], metrics.dropped_log_lines.inc)
metrics.add(ReplicaCollector(workers, SystemClock()))


@asynccontextmanager
async def lifespan(api: Litestar) -> AsyncIterator[None]:
    """Open the services and start the actors; on exit drain the actors and close the services."""
    log = structlog.get_logger()
    for line in settings.fallbacks():
        log.info(line, action="settings")
    for line in settings.notes:
        log.warning(line, action="settings")
    async with AsyncExitStack() as stack:
        try:
            stack.enter_context(serve_metrics(metrics.registry, settings.host, settings.metrics_port))
            await anyio.to_thread.run_sync(render_documents, api)
            services = await stack.enter_async_context(open_services(settings, metrics, wakeups=workers))
            gc.freeze()  # objects loaded so far are permanent; a collection that visits them stops the loop
            gc.set_threshold(*GC_THRESHOLDS)
            if settings.store == "sqlite":
                sys.setswitchinterval(SQLITE_SWITCH_INTERVAL)
            await stack.enter_async_context(workers.running(services))
            api.state.services = services
        except* IngestError as error_group:
            try:
                log.critical(str(first_error(error_group)), action="start_failed")
            finally:
                exit_process(1)  # the server would print two tracebacks around the sentence
        yield
    if workers.crashed:
        exit_process(1)  # the server would end with 0 if a SIGTERM follows the crash


state = build_state(
    access=Access.OPEN if settings.anonymous else Access.CLOSED,
    process_health=workers,
    own_names=settings.own_names,
    proxied=settings.api_open,
    limits=Limits(settings.requests_per_second, 5 * settings.requests_per_second),
    signing_secrets=[secret.get_secret_value() for secret in settings.webhook_signing_secrets],
    webhook_limits=Limits(settings.webhooks_per_second, 2 * settings.webhooks_per_second),
    exposition=None if settings.metrics_port else metrics.exposition,
    page_enabled=settings.page,
)
api = create_api(state, lifespan=[lifespan], mounts=simulator_mounts(settings))
app = RequestContext(RequestMetrics(api, metrics))
