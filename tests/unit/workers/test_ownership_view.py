"""Ownership expires by the clock alone; a shard that is being released has no epoch."""

import anyio

from bg_ingest.domain.ownership import Lease, Owner
from tests.conftest import on
from workers.ownership_view import NEVER, OwnershipView

anyio_backend = on("asyncio", "trio")


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
