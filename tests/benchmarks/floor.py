"""The service's own server and routes over readings that lie in memory: what is left when no store is asked.

python -m tests.benchmarks.floor PORT
"""

import sys
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, cast

import anyio
import msgspec
from litestar import Litestar

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.table.records import head_of, packed_of
from bg_ingest.api.app import create_api
from bg_ingest.api.auth import Access
from bg_ingest.domain.commits import Head
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.windows import Window
from bg_ingest.server import Server, listen
from bg_ingest.services.read import Reader
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


class OnlyReading:
    """The use cases that are asked for here."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader


async def remembered() -> Remembered:
    found = {person.user: await _of(person) for person in PEOPLE}
    return Remembered(
        {user: head for user, (head, _) in found.items()}, {user: packed for user, (_, packed) in found.items()}
    )


async def _of(person: Person) -> tuple[Head, list[bytes]]:
    (_, head), *rows = await segments(person)
    return head_of(person.user, head), [packed_of(item) for _, item in rows]


def load(readings: Remembered) -> Litestar:
    services = cast("Any", OnlyReading(Reader(cast("Any", readings), SystemClock())))
    return create_api(services, access=Access.OPEN, vitals=Workers())


def main(port: str) -> None:
    readings = anyio.run(remembered)
    Server(partial(load, readings), listen("127.0.0.1", int(port))).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
