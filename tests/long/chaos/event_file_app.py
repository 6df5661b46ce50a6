"""The service as app.py makes it, with a publisher that confirms an event once it is written to a file.

A subscriber of the in-process publisher would lose its events with the process; a broker would not.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path

from anyio import to_thread
from litestar import Litestar

from bg_ingest.api.app import build_state, create_api
from bg_ingest.api.auth import Access
from bg_ingest.domain.changes import Change
from bg_ingest.domain.cloud_events import encode_cloud_event
from bg_ingest.observability.logs import configure_logging
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.ports import Publisher
from bg_ingest.server import Server, listen
from bg_ingest.services.publishing.relay import Relay
from bg_ingest.settings import get_settings
from bg_ingest.wiring import SOURCE, open_services
from bg_ingest.wiring.providers import simulator_mounts
from workers.build import Workers


class EventFilePublisher:
    """A Publisher: one line per event, its id and a digest of its content, durable when confirmed."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def publish(self, change: Change) -> bool:
        digest = blake2b(encode_cloud_event(change, SOURCE), digest_size=8).hexdigest()
        os.write(self._file, f"{change.id} {digest}\n".encode())  # in one write, so that no other line is interleaved
        await to_thread.run_sync(os.fdatasync, self._file)
        return True


def load(event_file: Path) -> Litestar:
    return compose(EventFilePublisher(event_file))


def compose(publisher: Publisher) -> Litestar:
    """Compose the parts of app.py."""
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)
    workers = Workers()

    @asynccontextmanager
    async def lifespan(api: Litestar) -> AsyncIterator[None]:
        async with open_services(settings, MetricsRegistry(), wakeups=workers) as opened:
            services = replace(opened, relay=Relay(opened.store.outbox, publisher, opened.observer))
            async with workers.running(services):
                api.state.services = services
                yield

    state = build_state(access=Access.OPEN, process_health=workers)
    return create_api(state, lifespan=[lifespan], mounts=simulator_mounts(settings))


def main(event_file: str) -> None:
    settings = get_settings()
    Server(partial(load, Path(event_file)), listen(settings.host, settings.port)).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
