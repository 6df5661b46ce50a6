from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta

import anyio
import msgspec
import pytest

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.simulator.faults import Failed
from tests.home import ADA, Home, connected
from workers.refresher import Refresher

DAY = timedelta(days=1).total_seconds()


@pytest.fixture
async def home() -> AsyncGenerator[Home]:
    async with connected() as home:
        yield home


@pytest.fixture
def refresher(home: Home) -> Refresher:
    """Goes round Ada's connection and Ben's."""

    async def listed() -> AsyncGenerator[ConnectionId]:
        for user in ("ada", "ben"):
            async with aclosing(home.services.store.connections.listed(home.shard_of(user))) as rows:
                async for each in rows:
                    yield each.id

    services = home.services
    return Refresher(services.store.connections, services.grants, services.clock, listed)


async def test_an_idle_grant_is_refreshed_before_a_month_is_over(home: Home, refresher: Refresher) -> None:
    await home.services.steering.change(ADA, paused=True)
    await anyio.sleep(19 * DAY)
    assert await refresher.round() == 0
    await anyio.sleep(2 * DAY)
    assert await refresher.round() == 1
    assert home.rotations == 1
    assert await refresher.round() == 0
    await anyio.sleep(21 * DAY)
    assert await refresher.round() == 1
    assert (await home.grant()).version == 3


async def test_trouble_with_one_grant_ends_no_round(home: Home, refresher: Refresher) -> None:
    await home.house.connect("ben", "SandboxUser2")
    home.house.simulator.add_fault(Failed(endpoint="token", user="SandboxUser1"))
    await anyio.sleep(21 * DAY)
    assert await refresher.round() == 1


async def test_rounds_begin_after_the_start_and_come_daily(home: Home, refresher: Refresher) -> None:
    async with anyio.create_task_group() as group:
        await group.start(refresher)
        await anyio.sleep(50 * DAY)
        group.cancel_scope.cancel()
    assert home.rotations == 2


async def test_a_grant_that_cannot_be_opened_costs_nobody_else_theirs(home: Home, refresher: Refresher) -> None:
    await home.house.connect("ben", "SandboxUser2")
    grant = await home.grant()
    altered = msgspec.structs.replace(grant, version=grant.version + 1, sealed=b"not sealed by us")
    await home.services.store.connections.store_grant(altered)
    await anyio.sleep(21 * DAY)
    assert await refresher.round() == 1
