from collections.abc import Awaitable, Callable

import anyio
import pytest
import structlog
from anyio.abc import TaskStatus

from workers.supervisor import Backoff, CrashLimit, Supervisor

EXACT = Backoff(first=1, ceiling=8, reset_after=100, jitter=lambda _low, high: high)


class Fragile:
    """Starts, acts as scripted for this run, crashes; records the times of its runs."""

    def __init__(self, run: Callable[[int], Awaitable[None]] | None = None) -> None:
        self.runs: list[float] = []
        self._run = run
        self._born = anyio.current_time()

    async def __call__(self, *, task_status: TaskStatus[None]) -> None:
        self.runs.append(anyio.current_time() - self._born)
        task_status.started()
        if self._run:
            await self._run(len(self.runs))
        raise OSError("down")


async def supervise(supervisor: Supervisor, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as group:
            await group.start(supervisor)


async def test_a_crash_restarts_after_growing_delays() -> None:
    actor = Fragile()
    await supervise(Supervisor("relay", actor, backoff=EXACT, crash_limit=None), 30)
    assert actor.runs == pytest.approx([0, 1, 3, 7, 15, 23], abs=0.01)


async def test_a_long_run_forgives_earlier_failures() -> None:
    async def last(run: int) -> None:
        await anyio.sleep(100 if run == 3 else 0)

    actor = Fragile(last)
    await supervise(Supervisor("relay", actor, backoff=EXACT, crash_limit=None), 107)
    assert actor.runs == pytest.approx([0, 1, 3, 104, 106], abs=0.01)


async def test_one_crash_leaves_other_actors_alone() -> None:
    steady = Fragile(lambda _run: anyio.sleep_forever())
    fragile = Fragile()
    with anyio.move_on_after(10):
        async with anyio.create_task_group() as group:
            for actor in (steady, fragile):
                await group.start(Supervisor("actor", actor, backoff=EXACT, crash_limit=None))
    assert len(steady.runs) == 1
    assert len(fragile.runs) == 4


async def test_crashes_past_the_patience_leave_as_they_are() -> None:
    actor = Fragile()
    patience = CrashLimit(crashes=4, within=60)
    with pytest.raises(OSError, match="down"):
        await Supervisor("relay", actor, backoff=EXACT, crash_limit=patience)()
    assert actor.runs == pytest.approx([0, 1, 3, 7], abs=0.01)


async def test_crashes_far_apart_never_exceed_the_patience() -> None:
    actor = Fragile(lambda _run: anyio.sleep(30))
    patience = CrashLimit(crashes=4, within=60)
    await supervise(Supervisor("relay", actor, backoff=EXACT, crash_limit=patience), 1000)
    assert len(actor.runs) > 20


async def test_an_actor_that_returns_has_finished() -> None:
    runs = 0

    async def short(*, task_status: TaskStatus[None]) -> None:
        nonlocal runs
        runs += 1
        task_status.started()

    await Supervisor("once", short, backoff=EXACT, crash_limit=CrashLimit())()
    assert runs == 1


async def test_a_crash_before_the_first_start_is_a_failed_start() -> None:
    async def broken(*, task_status: TaskStatus[None]) -> None:
        raise OSError("no table")

    with pytest.raises(BaseExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            await group.start(Supervisor("relay", broken, backoff=EXACT, crash_limit=None))
    assert caught.group_contains(OSError, match="no table")


async def test_a_restart_may_fail_before_it_has_started() -> None:
    runs = 0

    async def sometimes(*, task_status: TaskStatus[None]) -> None:
        nonlocal runs
        runs += 1
        if runs in {1, 4}:
            task_status.started()
        if runs == 4:
            await anyio.sleep_forever()
        raise OSError("down")

    supervisor = Supervisor("broker", sometimes, backoff=EXACT, crash_limit=None)
    await supervise(supervisor, 60)
    assert (runs, supervisor.failures) == (4, 3)


async def test_only_the_edges_are_logged() -> None:
    async def third_time_lucky(run: int) -> None:
        if run == 4:
            await anyio.sleep_forever()

    class FailsToRestart(Fragile):
        async def __call__(self, *, task_status: TaskStatus[None]) -> None:
            if len(self.runs) in {1, 2}:
                self.runs.append(-1)
                raise OSError("still down")
            await super().__call__(task_status=task_status)

    with structlog.testing.capture_logs() as logs:
        actor = FailsToRestart(third_time_lucky)
        await supervise(Supervisor("broker", actor, backoff=EXACT, crash_limit=None), 60)
    seen = [(line["action"], line["actor"]) for line in logs if line["log_level"] != "debug"]
    assert seen == [("actor_crashed", "broker"), ("actor_recovered", "broker")]


async def test_a_crash_after_a_recovery_is_an_edge_again() -> None:
    with structlog.testing.capture_logs() as logs:
        actor = Fragile(lambda _run: anyio.sleep(10))
        await supervise(Supervisor("relay", actor, backoff=EXACT, crash_limit=None), 25)
    assert [line["log_level"] for line in logs] == ["error", "info", "error", "info"]


async def test_cancellation_is_no_crash() -> None:
    actor = Fragile(lambda _run: anyio.sleep_forever())
    with structlog.testing.capture_logs() as logs:
        await supervise(Supervisor("relay", actor, backoff=EXACT, crash_limit=CrashLimit()), 5)
    assert (len(actor.runs), logs) == (1, [])


UP_TO_A_MINUTE = Backoff(first=1, ceiling=60, jitter=lambda _low, high: high)


def test_the_delay_doubles_up_to_the_ceiling() -> None:
    assert [UP_TO_A_MINUTE.delay(failures) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_jitter_takes_away_at_most_half() -> None:
    shortest = Backoff(first=1, ceiling=60, jitter=lambda low, _high: low)
    assert [shortest.delay(failures) for failures in (1, 2, 7)] == [0.5, 1, 30]


def test_delays_differ_by_default() -> None:
    assert len({Backoff().delay(5) for _ in range(20)}) > 1


@pytest.mark.parametrize("failures", [40, 2_000])
def test_very_many_failures_do_not_overflow(failures: int) -> None:
    assert UP_TO_A_MINUTE.delay(failures) == 60
