"""A house without actors, where Ada is connected and the test takes her turns."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest

from bg_ingest.domain.connections import Connection, Defaults
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.turns import Plan, Turn
from tests.house import PROVIDER, House, house

ADA = ConnectionId(UserId("ada"), PROVIDER)


class Home:
    """Ada's connection, and turns of it."""

    def __init__(self, home: House) -> None:
        self.house = home
        self.services = home.services
        self.plan = Plan()

    async def connect(self) -> None:
        answer = await self.house.connect(ADA.user)
        assert answer.status_code == 200, answer.text
        await self.read_past()

    async def read_past(self) -> None:
        while (await self.connection()).backfill is not None:
            await self.turn()

    async def turn(self, *, asked: bool = False) -> Turn:
        turn = await self.services.polling.turn(ADA, 1, self.plan, asked=asked)
        self.plan = turn.plan
        return turn

    async def due_turn(self, turn: Turn) -> Turn:
        """Sleep until the turn after this one is due, and take it."""
        assert turn.due is not None
        await anyio.sleep(max(0.0, (turn.due - self.house.clock.now()).total_seconds()))
        return await self.turn()

    async def at_rest(self, turn: Turn) -> Turn:
        """Take the turns that are due at once, surveys and what is left to read, until one is due later."""
        while turn.due is not None and turn.due <= self.house.clock.now():
            turn = await self.turn()
        return turn

    async def until_over(self, turn: Turn) -> Turn:
        """Take turns until there is none to come."""
        for _ in range(100):
            if turn.due is None:
                return turn
            turn = await self.due_turn(turn)
        pytest.fail("the turns do not end")

    async def connection(self) -> Connection:
        return await self.house.connection(ADA.user)

    async def grant(self) -> Grant:
        _, grant = await self.services.store.connections.with_grant(ADA)
        assert grant is not None
        return grant

    async def until_expired(self) -> None:
        await anyio.sleep(timedelta(hours=2).total_seconds())

    def shard_of(self, user: str) -> int:
        return shard_of(UserId(user))

    @property
    def rotations(self) -> int:
        return len(self.house.simulator.grants.rotations)

    async def measured(self) -> list[tuple[object, int]]:
        return [(each.reading.measured_at, each.reading.glucose_mg_dl) for each in await self.house.stored(ADA.user)]


@asynccontextmanager
async def connected() -> AsyncIterator[Home]:
    """Ada is connected, and her last day has been read."""
    async with house(defaults=Defaults(backfill_days=1)) as opened:
        home = Home(opened)
        await home.connect()
        yield home
