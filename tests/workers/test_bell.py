import anyio
import pytest

from workers.bell import Bell


async def test_rings_coalesce_and_are_kept() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    assert await bell.wait(60) is True
    started_at = anyio.current_time()
    assert await bell.wait(60) is False
    assert anyio.current_time() - started_at == pytest.approx(60, abs=0.01)


async def test_a_ring_wakes_the_sleeper() -> None:
    bell, started_at = Bell(), anyio.current_time()

    async def later() -> None:
        await anyio.sleep(7)
        bell.ring()

    async with anyio.create_task_group() as group:
        group.start_soon(later)
        assert await bell.wait(300)
    assert anyio.current_time() - started_at == pytest.approx(7, abs=0.01)


async def test_a_ring_with_no_time_left_is_heard() -> None:
    bell = Bell()
    bell.ring()
    assert await bell.wait(0) is True


async def test_a_ring_survives_the_cancellation_of_its_listener() -> None:
    bell = Bell()
    with anyio.CancelScope() as scope:
        bell.ring()
        scope.cancel()
        await bell.wait(60)
    assert await bell.wait(0) is True
