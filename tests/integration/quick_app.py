"""What ``quick.py`` serves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar

from bg_ingest.api.app import create_api
from bg_ingest.api.auth import Access
from bg_ingest.domain.ownership import OwnershipTimings
from bg_ingest.observability.logs import configure_logging
from bg_ingest.settings import get_settings
from bg_ingest.wiring import Services, open_services
from workers.build import Workers

FAST_TIMINGS = OwnershipTimings(ttl=4.0, heartbeat_every=1.25, snapshot_every=0.4)


def make() -> Litestar:
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)
    services, workers = Services(), Workers()

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with open_services(settings, services, wakeups=workers):
            services.timings = FAST_TIMINGS
            async with workers.running(services):
                yield

    secrets = [each.get_secret_value() for each in settings.webhook_signing_secrets]
    return create_api(
        services, access=Access.OPEN, process_health=workers, signing_secrets=secrets, lifespan=[lifespan]
    )
