"""Counts with some thousand connections in one process; ``scale.py`` measures times."""

from collections import Counter
from collections.abc import AsyncGenerator, Collection
from datetime import timedelta

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.adapters.sqlite.table import SqliteTable
from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.domain.ids import SHARDS
from bg_ingest.ports import Priority
from bg_ingest.ports.table import Item, Key, Put
from tests.conftest import on
from tests.fakes.counting_table import CountingTable
from tests.harness.service import LoopClock
from tests.long.benchmarks.crowd import CrowdProvider, build_process, rows_of
from tests.long.benchmarks.scale import expected_slowdown

anyio_backend = on("asyncio")

PEOPLE, CALLS_PER_HOUR = 3_000, 2_400
"""Number of users. Their polls and related calls need 13,600 calls an hour."""


class Directories(CountingTable):
    """Store that also counts pages of directories and reads of each connection."""

    def __init__(self, inner: SqliteTable) -> None:
        super().__init__(inner)
        self.pages = Counter[str]()
        self.connections = 0

    async def batch_get(self, keys: Collection[Key], *, consistent: bool = True) -> dict[Key, Item]:
        self.connections += sum(sk.startswith("connection#") for _, sk in keys)
        return await super().batch_get(keys, consistent=consistent)

    async def query(
        self,
        pk: str,
        low: str,
        high: str,
        *,
        consistent: bool = True,
        page: int = 100,
        descending: bool = False,
        attributes: Collection[str] = (),
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        async for items in super().query(
            pk, low, high, consistent=consistent, page=page, descending=descending, attributes=attributes
        ):
            if pk.startswith("shard#"):
                self.pages[pk] += 1
            yield items


@pytest.fixture
async def table() -> AsyncGenerator[Directories]:
    async with open_table(None, LoopClock()) as memory:
        begin = LoopClock().now() + timedelta(seconds=30)
        for number in range(PEOPLE):
            rows = rows_of(number, PEOPLE, begin, expected_slowdown(PEOPLE, CALLS_PER_HOUR))
            await memory.transact([Put(key, item) for key, item in rows])
        yield Directories(memory)


async def test_all_are_scheduled_by_one_read_of_each_page_and_polled_when_they_are_due(table: Directories) -> None:
    clock = LoopClock()
    services, workers = build_process(table, CrowdProvider(clock), clock, CALLS_PER_HOUR)
    async with workers.running(services):
        await anyio.sleep(4)
        assert workers.connection_count() == PEOPLE
        assert table.pages == dict.fromkeys(table.pages, 1)
        assert len(table.pages) == SHARDS
        await anyio.sleep(26)
        assert table.connections == PEOPLE
        (state,) = services.demand.states()
        assert state.slowdown == pytest.approx(expected_slowdown(PEOPLE, CALLS_PER_HOUR))
        await anyio.sleep(540)  # the refresher's cycle is ten minutes
        (state,) = services.demand.states()
    given = 540 * ProviderLimit(CALLS_PER_HOUR).rate * Priority.LIVE / 100 / 1.13
    assert state.calls == pytest.approx(given, rel=0.2), "all available calls are used, and no more are requested"
    assert state.waiting <= 2
    assert table.connections - PEOPLE < 1.5 * state.calls, "a connection that is not due is not read"
