"""The service as app.py makes it, noting for each event how long after ``recorded_at`` the broker confirmed it.

python -m tests.long.benchmarks.confirm_delay FILE
"""

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from litestar import Litestar

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.api.app import create_api
from bg_ingest.api.auth import Access, Limits
from bg_ingest.domain.changes import Change
from bg_ingest.observability.logs import configure_logging
from bg_ingest.ports import Provider, Publisher
from bg_ingest.server import Server, listen
from bg_ingest.settings import get_settings
from bg_ingest.store import Store
from bg_ingest.wiring import Services, open_services
from workers.build import Workers

UNLIMITED = Limits(100_000, 100_000)


class TimedPublisher:
    """A Publisher that writes a line of seconds for each event once that is confirmed."""

    def __init__(self, inner: Publisher, file: Path) -> None:
        self._inner = inner
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._clock = SystemClock()

    async def publish(self, change: Change) -> bool:
        taken = await self._inner.publish(change)
        waited = self._clock.now() - change.recorded_at
        os.write(self._file, f"{waited.total_seconds()}\n".encode())
        return taken


class TimedServices(Services):
    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def join(self, store: Store, publisher: Publisher, providers: Mapping[str, Provider], **others: Any) -> None:
        super().join(store, TimedPublisher(publisher, self._file), providers, **others)


def load(file: Path) -> Litestar:
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)
    services, workers = TimedServices(file), Workers()

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with open_services(settings, services, wakeups=workers), workers.running(services):
            yield

    return create_api(
        services,
        access=Access.OPEN,
        process_health=workers,
        limits=UNLIMITED,
        signing_secrets=[each.get_secret_value() for each in settings.webhook_signing_secrets],
        webhook_limits=UNLIMITED,
        lifespan=[lifespan],
    )


def main(file: str) -> None:
    settings = get_settings()
    Server(partial(load, Path(file)), listen(settings.host, settings.port)).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
