import anyio
import pytest

from workers.wakeup import Wakeup


async def test_wakeups_coalesce_and_are_kept() -> None:
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    assert await wakeup.wait(60) is True
    started_at = anyio.current_time()
    assert await wakeup.wait(60) is False
    assert anyio.current_time() - started_at == pytest.approx(60, abs=0.01)


async def test_a_wakeup_wakes_the_sleeper() -> None:
    wakeup, started_at = Wakeup(), anyio.current_time()

    async def later() -> None:
        await anyio.sleep(7)
        wakeup.set()

    async with anyio.create_task_group() as group:
        group.start_soon(later)
        assert await wakeup.wait(300)
    assert anyio.current_time() - started_at == pytest.approx(7, abs=0.01)


async def test_a_wakeup_with_no_time_left_is_noticed() -> None:
    wakeup = Wakeup()
    wakeup.set()
    assert await wakeup.wait(0) is True


async def test_a_wakeup_survives_the_cancellation_of_its_listener() -> None:
    wakeup = Wakeup()
    with anyio.CancelScope() as scope:
        wakeup.set()
        scope.cancel()
        await wakeup.wait(60)
    assert await wakeup.wait(0) is True
