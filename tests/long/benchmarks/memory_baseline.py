"""The service's own server and routes over readings in memory: the cost of an answer without a store.

python -m tests.long.benchmarks.memory_baseline PORT
"""

import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import msgspec
from litestar import Litestar

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.api.app import build_state, create_api
from bg_ingest.api.auth import Access, Limits
from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.domain.commits import Head
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.windows import Window
from bg_ingest.observability.observer import Metrics
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.server import Server, listen
from bg_ingest.store import Store
from bg_ingest.store.head import decode_head
from bg_ingest.wiring import build_services
from bg_ingest.wiring.broker import embedded_broker
from tests.long.benchmarks.history import PEOPLE, Person, segments
from workers.build import Workers


class InMemoryReadings(msgspec.Struct, frozen=True):
    """Reading part of the port Readings, from memory. A window always returns all readings."""

    heads: dict[UserId, Head]
    of_users: dict[UserId, list[bytes]]

    async def head(self, user: UserId) -> Head | None:
        return self.heads.get(user)

    async def iter_packed(self, user: UserId, _: Window, *, consistent: bool = False) -> AsyncGenerator[bytes]:
        for each in self.of_users[user]:
            yield each


def build_readings() -> InMemoryReadings:
    found = {person.user: _of(person) for person in PEOPLE}
    return InMemoryReadings(
        {user: head for user, (head, _) in found.items()}, {user: packed for user, (_, packed) in found.items()}
    )


def _of(person: Person) -> tuple[Head, list[bytes]]:
    (_, head), *rows = segments(person)
    return decode_head(person.user, head), [packed for _, item in rows if isinstance(packed := item["readings"], bytes)]


def load(readings: InMemoryReadings) -> Litestar:
    workers, clock = Workers(), SystemClock()

    @asynccontextmanager
    async def lifespan(api: Litestar) -> AsyncIterator[None]:
        async with open_table(None, clock) as table:
            store = Store(table, clock)
            store.readings = cast("Any", readings)
            api.state.services = build_services(
                store,
                embedded_broker(),
                {},
                metrics=Metrics(MetricsRegistry(), clock),
                sealer=AesGcmSealer([bytes(32)]),
                clock=clock,
                wakeups=workers,
                defaults=PollDefaults(),
                limit=ProviderLimit(60_000),
                table="floor",
            )
            yield

    limits = Limits(100_000, 100_000)
    state = build_state(access=Access.OPEN, process_health=workers, limits=limits)
    return create_api(state, lifespan=[lifespan])


def main(port: str) -> None:
    readings = build_readings()
    Server(partial(load, readings), listen("127.0.0.1", int(port))).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
