from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta

import anyio
import msgspec
import pytest

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.simulator.faults import Failed
from tests.harness.connected_user import ADA, ConnectedUser, open_connected_user
from workers.refresher import Refresher

DAY = timedelta(days=1).total_seconds()


@pytest.fixture
async def ada() -> AsyncGenerator[ConnectedUser]:
    async with open_connected_user() as ada:
        yield ada


@pytest.fixture
def refresher(ada: ConnectedUser) -> Refresher:
    """Refresher of Ada's and Ben's connections."""

    async def listed() -> AsyncGenerator[ConnectionId]:
        for user in ("ada", "ben"):
            async with aclosing(ada.services.store.connections.iter_directory(ada.shard_of(user))) as rows:
                async for each in rows:
                    yield each.id

    services = ada.services
    return Refresher(services.store.connections, services.grants, services.clock, listed)


async def test_an_idle_grant_is_refreshed_before_a_month_is_over(ada: ConnectedUser, refresher: Refresher) -> None:
    await ada.services.connections.update_worker(ADA, paused=True)
    await anyio.sleep(19 * DAY)
    assert await refresher.refresh_idle_grants() == 0
    await anyio.sleep(2 * DAY)
    assert await refresher.refresh_idle_grants() == 1
    assert ada.rotations == 1
    assert await refresher.refresh_idle_grants() == 0
    await anyio.sleep(21 * DAY)
    assert await refresher.refresh_idle_grants() == 1
    assert (await ada.grant()).version == 3


@pytest.mark.slow
async def test_trouble_with_one_grant_ends_no_round(ada: ConnectedUser, refresher: Refresher) -> None:
    await ada.service.connect("ben", "SandboxUser2")
    ada.service.simulator.add_fault(Failed(endpoint="token", user="SandboxUser1"))
    await anyio.sleep(21 * DAY)
    assert await refresher.refresh_idle_grants() == 1


async def test_rounds_begin_after_the_start_and_come_daily(ada: ConnectedUser, refresher: Refresher) -> None:
    async with anyio.create_task_group() as group:
        await group.start(refresher)
        await anyio.sleep(50 * DAY)
        group.cancel_scope.cancel()
    assert ada.rotations == 2


async def test_a_grant_that_cannot_be_opened_affects_no_other(ada: ConnectedUser, refresher: Refresher) -> None:
    await ada.service.connect("ben", "SandboxUser2")
    grant = await ada.grant()
    altered = msgspec.structs.replace(grant, version=grant.version + 1, sealed=b"not sealed by us")
    await ada.services.store.grants.store(altered)
    await anyio.sleep(21 * DAY)
    assert await refresher.refresh_idle_grants() == 1
