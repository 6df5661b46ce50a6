"""The service's own server and routes over readings that lie in memory: what is left when no store is asked.

python -m tests.benchmarks.floor PORT
"""

import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import msgspec
from litestar import Litestar

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.local.publisher import LocalPublisher
from bg_ingest.adapters.sealing import KeyRing
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.adapters.table.records import head_of, packed_of
from bg_ingest.adapters.table.store import TableStore
from bg_ingest.api.app import create_api
from bg_ingest.api.auth import Access, Limits
from bg_ingest.domain.budget import Limit
from bg_ingest.domain.commits import Head
from bg_ingest.domain.connections import Defaults
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.windows import Window
from bg_ingest.server import Server, listen
from bg_ingest.wiring import SOURCE, Services
from tests.benchmarks.history import PEOPLE, Person, segments
from workers.build import Workers


class Remembered(msgspec.Struct, frozen=True):
    """As much of the port Readings as reading takes, from memory; a window is always all there is."""

    heads: dict[UserId, Head]
    of_users: dict[UserId, list[bytes]]

    async def head(self, user: UserId) -> Head | None:
        return self.heads.get(user)

    async def packed(self, user: UserId, _: Window, *, consistent: bool = False) -> AsyncGenerator[bytes]:
        for each in self.of_users[user]:
            yield each


def remembered() -> Remembered:
    found = {person.user: _of(person) for person in PEOPLE}
    return Remembered(
        {user: head for user, (head, _) in found.items()}, {user: packed for user, (_, packed) in found.items()}
    )


def _of(person: Person) -> tuple[Head, list[bytes]]:
    (_, head), *rows = segments(person)
    return head_of(person.user, head), [packed_of(item) for _, item in rows]


def load(readings: Remembered) -> Litestar:
    services, workers, clock = Services(), Workers(), SystemClock()

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with open_table(None, clock) as table:
            store = TableStore(table, clock)
            store.readings = cast("Any", readings)
            services.join(
                store,
                LocalPublisher(SOURCE),
                {},
                sealer=KeyRing([bytes(32)]),
                clock=clock,
                hints=workers,
                defaults=Defaults(),
                limit=Limit(60_000),
                table="floor",
            )
            yield

    limits = Limits(100_000, 100_000)
    return create_api(services, access=Access.OPEN, vitals=workers, limits=limits, lifespan=[lifespan])


def main(port: str) -> None:
    readings = remembered()
    Server(partial(load, readings), listen("127.0.0.1", int(port))).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
