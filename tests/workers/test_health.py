"""What readiness says of the whole service, from its start to its end."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import pytest
from anyio.abc import TaskGroup

from bg_ingest.domain.connections import Defaults, Listed
from bg_ingest.domain.leases import SHARED
from bg_ingest.ports import Connections
from bg_ingest.simulator.faults import Failed, Fault, Html
from tests.conftest import on
from tests.fakes.faults import InFront
from tests.house import PROVIDER, House, house
from workers.shards import SERVED_WITHIN

anyio_backend = on("asyncio")


class Table(InFront):
    """A way to the table whose calls take a while, or meet a fault of ours, from when they are told to."""

    delay = 0.0
    has_bug = False

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if self.has_bug:
            raise ValueError("bug")
        await anyio.sleep(self.delay)
        return await call()


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[House, Table]]:
    tables: list[Table] = []

    def around(table: Any) -> Table:
        tables.append(Table(table))
        return tables[0]

    async with house(defaults=Defaults(backfill_days=1), around=around) as home:
        yield home, tables[0]


async def health(home: House) -> tuple[int, list[str]]:
    answer = await home.api.get("/health/ready")
    told = answer.json()
    return answer.status_code, told.get("reasons") or told.get("degraded") or []


async def start(group: TaskGroup, home: House) -> anyio.Event:
    """Run the actors in the group until the event is set."""
    over = anyio.Event()

    async def run() -> None:
        async with home.running():
            await over.wait()

    group.start_soon(run)
    return over


async def test_it_is_ready_between_the_start_and_the_drain_alone() -> None:
    async with opened() as (home, table), anyio.create_task_group() as group:
        assert await health(home) == (503, ["starting"])
        table.delay = 1.0
        over = await start(group, home)
        await anyio.sleep(0.5)
        assert await health(home) == (503, ["starting"])
        await anyio.sleep(60)
        assert await health(home) == (200, [])
        over.set()
        await anyio.sleep(0.5)
        assert await health(home) == (503, ["draining"])


async def test_after_a_crash_that_cannot_heal_it_is_not_ready() -> None:
    async with opened() as (home, table), anyio.create_task_group() as group:
        over = await start(group, home)
        await anyio.sleep(5)
        stopped = anyio.Event()
        assert home.workers._actors is not None
        home.workers._actors.runtime._on_crash = stopped.set  # else this process would be stopped
        table.has_bug = True
        await stopped.wait()
        assert await health(home) == (503, ["crashed"])
        table.has_bug = False
        over.set()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Failed(endpoint="egvs"), "provider:dexcom:unavailable"),
        (Html(endpoint="egvs"), "provider:dexcom:misbehaved"),
    ],
)
async def test_a_provider_that_does_not_answer_is_degraded_until_it_does(fault: Fault, reason: str) -> None:
    async with opened() as (home, _), home.running():
        await home.connect("ada")
        await anyio.sleep(60)
        home.simulator.add_fault(fault)
        assert (await home.api.post(f"/api/users/ada/connections/{PROVIDER}/poll")).status_code == 202
        await anyio.sleep(5)
        assert await health(home) == (200, []), "one turn that fails says little"
        await anyio.sleep(180)
        assert await health(home) == (200, [reason])
        home.simulator.clear_faults()
        await anyio.sleep(1800)
        assert await health(home) == (200, [])


async def test_one_persons_trouble_does_not_degrade_a_provider_that_answers_others() -> None:
    async with opened() as (home, _), home.running():
        for number in range(1, 6):
            await home.connect(f"u{number}", f"SandboxUser{number}")
            await home.api.patch(
                f"/api/users/u{number}/connections/{PROVIDER}/worker", json={"poll_interval_seconds": 300}
            )
        await anyio.sleep(60)
        home.simulator.add_fault(Failed(endpoint="egvs", user="SandboxUser1"))
        seen = set()
        for _ in range(60):
            await anyio.sleep(60)
            seen.add((await health(home))[0])
        assert seen == {200}
        assert await health(home) == (200, [])


@pytest.mark.parametrize(
    ("name", "part", "told"),
    [
        ("rings", "_rings", (503, ["rings"])),
        ("scheduler", "_clock", (503, ["scheduler"])),
        ("auditor", "_auditing", (200, ["auditor"])),
    ],
)
async def test_while_an_actor_waits_to_be_started_again_it_is_ready_unless_nobody_is_polled_without_it(
    name: str, part: str, told: tuple[int, list[str]]
) -> None:
    async with opened() as (home, _), home.running():
        await home.connect("ada")
        await anyio.sleep(5)
        assert home.workers._actors is not None
        actor = next(each._actor for each in home.workers._actors.supervised if each.name == name)
        working = getattr(actor, part)
        setattr(actor, part, None)  # whatever it does next is a crash
        await home.api.get("/api/users/ada/connections")  # is written down for the audit
        said = []
        for _ in range(300):
            await anyio.sleep(0.1)
            said.append(await health(home))
        assert told in said
        assert said.count((200, [])) + said.count(told) == len(said)
        setattr(actor, part, working)
        await anyio.sleep(60)
        assert await health(home) == (200, [])


class Unreadable:
    """Connections whose directory takes its time."""

    def __init__(self, inner: Connections) -> None:
        self._inner = inner
        self.readable = anyio.Event()

    async def listed(self, shard: int) -> AsyncGenerator[Listed]:
        await self.readable.wait()
        async for each in self._inner.listed(shard):
            yield each


async def test_shards_that_are_ours_and_not_served_in_time_make_it_not_ready() -> None:
    async with opened() as (home, _):
        home.services.tempo = SHARED
        async with home.running():
            await anyio.sleep(60)
            actors = home.workers._actors
            assert actors is not None
            directory = Unreadable(home.services.store.connections)
            actors.shards._connections = cast("Connections", directory)
            actors.ownership._give_up()  # they are its own by the rows: the next look takes them up again
            await anyio.sleep(SERVED_WITHIN - 1)
            assert await health(home) == (200, []), "a hand-over makes nobody unready"
            await anyio.sleep(5)
            assert await health(home) == (503, ["shards"])
            directory.readable.set()
            await anyio.sleep(1)
            assert await health(home) == (200, [])
