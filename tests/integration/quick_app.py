"""Application served by ``quick.py``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from litestar import Litestar

from bg_ingest.api.app import build_state, create_api
from bg_ingest.api.auth import Access
from bg_ingest.domain.ownership import OwnershipTimings
from bg_ingest.observability.logs import configure_logging
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.settings import get_settings
from bg_ingest.wiring import open_services
from workers.build import Workers

FAST_TIMINGS = OwnershipTimings(ttl=4.0, heartbeat_every=1.25, snapshot_every=0.4)


def make() -> Litestar:
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)
    workers = Workers()

    @asynccontextmanager
    async def lifespan(api: Litestar) -> AsyncIterator[None]:
        async with open_services(settings, MetricsRegistry(), wakeups=workers) as opened:
            services = replace(opened, timings=FAST_TIMINGS)
            async with workers.running(services):
                api.state.services = services
                yield

    secrets = [each.get_secret_value() for each in settings.webhook_signing_secrets]
    state = build_state(access=Access.OPEN, process_health=workers, signing_secrets=secrets)
    return create_api(state, lifespan=[lifespan])
