"""The service as app.py makes it, with a record of each event's delay from ``recorded_at`` to the broker's confirm.

python -m tests.long.benchmarks.confirm_delay FILE
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from litestar import Litestar

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.api.app import build_state, create_api
from bg_ingest.api.auth import Access, Limits
from bg_ingest.domain.changes import Change
from bg_ingest.observability.logs import configure_logging
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.ports import Publisher
from bg_ingest.server import Server, listen
from bg_ingest.services.publishing.relay import Relay
from bg_ingest.settings import get_settings
from bg_ingest.wiring import open_services
from workers.build import Workers

UNLIMITED = Limits(100_000, 100_000)


class TimedPublisher:
    """A Publisher that writes a line of seconds for each confirmed event."""

    def __init__(self, inner: Publisher, file: Path) -> None:
        self._inner = inner
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._clock = SystemClock()

    async def publish(self, change: Change) -> bool:
        taken = await self._inner.publish(change)
        waited = self._clock.now() - change.recorded_at
        os.write(self._file, f"{waited.total_seconds()}\n".encode())
        return taken


def load(file: Path) -> Litestar:
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)
    workers = Workers()

    @asynccontextmanager
    async def lifespan(api: Litestar) -> AsyncIterator[None]:
        async with open_services(settings, MetricsRegistry(), wakeups=workers) as opened:
            relay = Relay(opened.store.outbox, TimedPublisher(opened.publisher, file), opened.observer)
            services = replace(opened, relay=relay)
            async with workers.running(services):
                api.state.services = services
                yield

    state = build_state(
        access=Access.OPEN,
        process_health=workers,
        limits=UNLIMITED,
        signing_secrets=[each.get_secret_value() for each in settings.webhook_signing_secrets],
        webhook_limits=UNLIMITED,
    )
    return create_api(state, lifespan=[lifespan])


def main(file: str) -> None:
    settings = get_settings()
    Server(partial(load, Path(file)), listen(settings.host, settings.port)).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
