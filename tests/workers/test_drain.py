"""What a drain lets finish and what it cuts off, over the whole service."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest

from bg_ingest.domain.connections import Defaults
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.leases import SHARED
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.ports import Turns
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import Slow
from tests.conftest import on
from tests.fakes.faults import InFront
from tests.house import PROVIDER, START, House, house
from tests.metrics.test_metrics import scraped

anyio_backend = on("asyncio", "trio")

CROWDED = SimulatorOptions(users=12, calls_per_hour=3600)


class Heavy(InFront):
    """A table on which a transaction takes four seconds before it has its effect, from when it is told to."""

    slow = False

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.begun = anyio.Event()

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if name == "transact" and self.slow:
            self.begun.set()
            await anyio.sleep(4)
        return await call()


async def test_a_commit_under_way_is_stored_and_hinted_once_and_a_fetch_is_cut_off() -> None:
    tables: list[Heavy] = []

    def heavy(table: Any) -> Heavy:
        tables.append(Heavy(table))
        return tables[0]

    async with house(defaults=Defaults(backfill_days=1), around=heavy) as home:
        async with home.running():
            await home.connect("ada")
            await home.connect("ben", "SandboxUser2")
            await anyio.sleep(700)
            before = {user: await home.stored(user) for user in ("ada", "ben")}
            home.simulator.add_fault(Slow(endpoint="egvs", user="SandboxUser2", seconds=25))
            tables[0].slow = True
            for user in ("ada", "ben"):
                assert (await home.api.post(f"/api/users/{user}/connections/{PROVIDER}/poll")).status_code == 202
            with anyio.fail_after(5):
                await tables[0].begun.wait()
            began = anyio.current_time()
        assert anyio.current_time() - began < 10
        assert await home.stored("ben") == before["ben"]
        stored = await home.stored("ada")
        assert len(stored) > len(before["ada"])
        assert stored[-1].reading.measured_at > START + timedelta(seconds=300)
        metrics = await scraped(home)
        assert metrics("readings_total", outcome="recorded") == len(stored) + len(before["ben"])
        head = await home.services.store.readings.head(UserId("ada"))
        assert head is not None
        assert sorted(set(home.told_numbers("ada"))) == list(range(1, head.last_change + 1))


DAILY = Defaults(backfill_days=0, poll_interval=timedelta(days=1))


@asynccontextmanager
async def crowded() -> AsyncIterator[tuple[House, list[str]]]:
    """More people than there are calls at once, whose looks are due in a day, on a process that runs."""
    async with house(defaults=DAILY, simulated=CROWDED) as home:
        home.services.tempo = SHARED
        async with home.running():
            users = [f"user-{number}" for number in range(CROWDED.users)]
            for number, user in enumerate(users):
                await home.connect(user, f"SandboxUser{number + 1}")
            await anyio.sleep(60)
            yield home, users


async def ask_for(home: House, users: list[str]) -> None:
    """Ask for a look at everybody, and return while most wait for their call."""
    for user in users:
        assert (await home.api.post(f"/api/users/{user}/connections/{PROVIDER}/poll")).status_code == 202
    await anyio.sleep(1.5)
    assert next(iter(home.services.budget.tills.values())).waiting > 3


async def test_turns_that_only_wait_for_a_call_are_let_go_at_once() -> None:
    async with crowded() as (home, users):
        await ask_for(home, users)
        began = anyio.current_time()
    assert anyio.current_time() - began < 0.5


class Looked:
    """Turns, with a note of whose looks were had."""

    def __init__(self, inner: Turns, had: Counter[str]) -> None:
        self._inner = inner
        self._had = had

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn:
        turn = await self._inner.turn(connection_id, epoch, plan, asked=asked)
        if turn.outcome.ending in {Ending.READ, Ending.NOTHING_NEW}:
            self._had[connection_id.user] += 1
        return turn


@pytest.mark.parametrize("way", ["drained", "given up"])
async def test_looks_that_were_asked_for_and_not_had_are_had_by_who_comes_next(way: str) -> None:
    had = Counter[str]()
    async with crowded() as (home, users):
        replica, actors = home.replica(), home.workers._actors
        assert actors is not None
        actors.scheduler._turns = Looked(home.services.turns, had)
        replica.services.turns = Looked(replica.services.turns, had)
        await ask_for(home, users)
        assert len(had) < len(users) - 3
        if way == "drained":
            async with replica.running():
                await actors.runtime.drain()
                await anyio.sleep(30)
        else:  # as when the store was out of reach for long: it comes back under its own name
            actors.ownership._give_up()
            await anyio.sleep(30)
    assert had.keys() == set(users)
    assert max(had.values()) <= 2, "a second time at most, by who did not know of the first"
