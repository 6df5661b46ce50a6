"""What a drain lets finish and what it cuts off, over the whole service."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio

from bg_ingest.domain.connections import Defaults
from bg_ingest.domain.ids import UserId
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import Slow
from tests.conftest import on
from tests.fakes.faults import InFront
from tests.house import PROVIDER, START, house
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


async def test_turns_that_only_wait_for_a_call_are_let_go_at_once() -> None:
    async with house(defaults=Defaults(backfill_days=0), simulated=CROWDED) as home:
        async with home.running():
            users = [f"user-{number}" for number in range(CROWDED.users)]
            for number, user in enumerate(users):
                await home.connect(user, f"SandboxUser{number + 1}")
            await anyio.sleep(600)
            for user in users:
                assert (await home.api.post(f"/api/users/{user}/connections/{PROVIDER}/poll")).status_code == 202
            await anyio.sleep(1.5)
            assert next(iter(home.services.budget.tills.values())).waiting > 3
            began = anyio.current_time()
        assert anyio.current_time() - began < 0.5
