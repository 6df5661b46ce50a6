"""Shards are released independently once they are idle, and the release is retried for a while.

Ownership expires by the clock alone; a shard that is being released has no epoch.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.ownership import Lease, Owner, OwnershipSnapshot
from bg_ingest.store import Store
from tests.conftest import on
from tests.fakes.faults import Fault, FaultyCalls, at
from tests.harness.owners import RecordingConsumer
from tests.harness.service import LoopClock
from workers.handover import NEVER, RELEASE_TIMEOUT, OwnershipView, release

anyio_backend = on("asyncio", "trio")


class HandoverWorld:
    """An owner of the shards 1, 2 and 3."""

    def __init__(self, store: Store) -> None:
        self.rows = FaultyCalls(store.ownership, self._plan, only={"release"})
        self.consumer = RecordingConsumer()
        self.view = OwnershipView(valid_for=13.5)
        self.fault: Fault | None = None

    def _plan(self, _: int) -> Fault | None:
        return self.fault

    async def take(self) -> list[Lease]:
        await self.rows.register(Owner("me"))
        leases = (await self.rows.snapshot()).leases
        taken = list(await self.rows.take([leases[shard] for shard in (1, 2, 3)], "me"))
        self.view.serving.update({lease.shard: lease for lease in taken})
        self.consumer.add_shards(taken)
        return taken

    async def release(self, leases: list[Lease]) -> None:
        await release(leases, self.rows, self.consumer, self.view)

    async def owned_rows(self) -> set[int]:
        return {lease.shard for lease in (await self.rows.snapshot()).leases if lease.owner == "me"}


@asynccontextmanager
async def open_handover() -> AsyncIterator[HandoverWorld]:
    async with open_table(None, LoopClock()) as table:
        yield HandoverWorld(Store(table, LoopClock()))


async def test_idle_shards_are_released_together_and_a_busy_one_later() -> None:
    async with open_handover() as world, anyio.create_task_group() as group:
        taken = await world.take()
        world.consumer.finish_seconds = {2: 10.0}
        group.start_soon(world.release, taken)
        await anyio.sleep(1)
        assert world.view.serving.keys() == {2}
        assert await world.owned_rows() == {2}
        assert world.rows.calls == 1
        assert world.view.released_at[2] == NEVER
        await anyio.sleep(10)
        assert await world.owned_rows() == set()


async def test_a_release_is_retried_and_left_to_the_ttl_after_its_timeout(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_handover() as world:
        taken = await world.take()
        world.fault = Fault.BEFORE
        began = anyio.current_time()
        await world.release(taken)
        assert anyio.current_time() - began == pytest.approx(RELEASE_TIMEOUT, abs=0.3)
        assert world.rows.calls > 5
        assert "release_unconfirmed" in capsys.readouterr().out
        assert await world.owned_rows() == {1, 2, 3}


async def test_a_failed_release_that_is_stored_at_the_next_try_is_not_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_table(None, LoopClock()) as table:
        store = Store(table, LoopClock())
        world = HandoverWorld(store)
        taken = await world.take()
        rows = FaultyCalls(store.ownership, at(1, Fault.BEFORE), only={"release"})
        await release(taken, rows, world.consumer, world.view)
        assert await world.owned_rows() == set()
        assert "release_unconfirmed" not in capsys.readouterr().out


async def test_a_snapshot_requested_before_a_release_does_not_show_it() -> None:
    async with open_handover() as world:
        taken = await world.take()
        requested = anyio.current_time()
        await anyio.sleep(0.1)
        await world.release(taken)
        assert set(world.view.unconfirmed(requested)) == {1, 2, 3}
        await anyio.sleep(0.1)
        assert set(world.view.unconfirmed(anyio.current_time())) == set()


async def test_without_a_heartbeat_nothing_is_owned() -> None:
    view = OwnershipView(valid_for=13.5)
    assert not view.is_valid()
    assert view.owner_id is None


async def test_ownership_expires_after_its_time_and_not_before() -> None:
    view = OwnershipView(valid_for=13.5, owner=Owner("me"), heartbeat_sent_at=anyio.current_time())
    assert view.owner_id == "me"
    await anyio.sleep(13.4)
    assert view.is_valid()
    await anyio.sleep(0.1)
    assert not view.is_valid()


async def test_only_a_shard_that_is_served_and_not_being_released_has_an_epoch() -> None:
    view = OwnershipView(valid_for=13.5, serving={1: Lease(1, 7, "me"), 2: Lease(2, 8, "me")})
    view.released_at[2] = NEVER
    assert [view.epoch(shard) for shard in (1, 2, 3)] == [7, None, None]


def test_f35_shards_are_counted_once_each_whatever_the_snapshot_says_of_those_taken_or_lost_since() -> None:
    leases = tuple(Lease(shard, 1, "me" if shard < 2 else "other" if shard < 5 else None) for shard in range(8))
    view = OwnershipView(valid_for=13.5, owner=Owner("me"))
    assert view.count_shards() == {"me": 0}
    view.snapshot = OwnershipSnapshot(owners=(Owner("me"), Owner("other")), leases=leases)
    assert view.count_shards() == {"me": 0, "other": 3}
    view.serving = {shard: Lease(shard, 2, "me") for shard in (0, 4, 5, 6)}
    assert view.count_shards() == {"me": 4, "other": 2}
