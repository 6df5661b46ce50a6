import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import NoReturn

import anyio
import pytest
import structlog
from anyio.abc import TaskStatus

from workers.runtime import DRAIN_SIGNAL, Actor, Runtime, RuntimeState, exit_process, stop_process


async def idle(*, task_status: TaskStatus[None]) -> None:
    task_status.started()
    await anyio.sleep_forever()


async def fragile(*, task_status: TaskStatus[None]) -> None:
    task_status.started()
    await anyio.sleep(5)
    raise ValueError("bug")


async def nothing() -> None:
    pass


class Drain:
    """Takes two seconds; remembers when it began and ended."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []

    async def __call__(self) -> None:
        self.began.append(anyio.current_time())
        await anyio.sleep(2)
        self.ended.append(anyio.current_time())


async def test_actors_start_in_order_each_after_the_one_before_has_started() -> None:
    seen = []

    def actor(name: str, seconds: float) -> Actor:
        async def run(*, task_status: TaskStatus[None]) -> None:
            seen.append(f"{name} begins")
            await anyio.sleep(seconds)
            seen.append(f"{name} started")
            task_status.started()
            await anyio.sleep_forever()

        return run

    actors = [actor("relay", 9), actor("scheduler", 1)]
    async with Runtime(actors, drain=nothing).running():
        assert seen == ["relay begins", "relay started", "scheduler begins", "scheduler started"]


async def test_a_clean_exit_drains_then_cancels() -> None:
    drain = Drain()
    runtime = Runtime([idle, idle], drain=drain)
    started_at = anyio.current_time()
    async with runtime.running():
        assert runtime.state is RuntimeState.RUNNING
        await anyio.sleep(100)
    assert len(drain.ended) == 1
    assert anyio.current_time() - started_at == pytest.approx(102, abs=0.01)


async def test_a_cancelled_host_still_drains() -> None:
    drain = Drain()
    with anyio.move_on_after(5):
        async with Runtime([idle], drain=drain).running():
            await anyio.sleep_forever()
    assert len(drain.ended) == 1


async def test_the_drain_has_a_deadline() -> None:
    started_at = anyio.current_time()
    async with Runtime([idle], drain=anyio.sleep_forever, drain_deadline=10).running():
        pass
    assert anyio.current_time() - started_at == pytest.approx(10, abs=0.01)


async def test_a_crashing_drain_is_logged_and_does_not_keep_the_actors() -> None:
    async def broken() -> None:
        raise OSError("unreachable")

    with structlog.testing.capture_logs() as logs:
        async with Runtime([idle], drain=broken).running():
            pass
    assert "runtime_drain_crashed" in [line["action"] for line in logs]


async def test_draining_early_runs_once_and_every_caller_waits_for_the_end() -> None:
    drain = Drain()
    runtime = Runtime([idle], drain=drain)
    async with runtime.running(), anyio.create_task_group() as group:
        group.start_soon(runtime.drain)
        await anyio.sleep(1)
        assert runtime.state is RuntimeState.DRAINING
        assert not drain.ended
        await runtime.drain()
        assert len(drain.ended) == 1
    assert len(drain.began) == 1


async def test_no_actor_is_left_when_the_drain_returns() -> None:
    unwound = []

    async def careful(*, task_status: TaskStatus[None]) -> None:
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.move_on_after(3, shield=True):
                await anyio.sleep(1)  # a token being stored
                unwound.append(True)

    runtime = Runtime([careful], drain=nothing)
    async with runtime.running():
        await runtime.drain()
        assert unwound == [True]


async def test_the_drain_signal_starts_the_drain_before_the_lifespan_ends() -> None:
    drain = Drain()
    runtime = Runtime(
        [idle], drain=drain, drain_deadline=60, on_stalled=lambda _: pytest.fail("the runtime ended too early")
    )
    async with runtime.running():
        os.kill(os.getpid(), DRAIN_SIGNAL)
        await anyio.sleep(5)
        assert len(drain.ended) == 1
    assert len(drain.began) == 1


async def test_a_lifespan_that_does_not_end_by_the_deadline_is_left() -> None:
    left: list[float] = []
    runtime = Runtime([idle], drain=Drain(), drain_deadline=10, on_stalled=lambda _: left.append(anyio.current_time()))
    async with runtime.running():
        signalled_at = anyio.current_time()
        os.kill(os.getpid(), DRAIN_SIGNAL)
        await anyio.sleep(30)
    assert left == pytest.approx([signalled_at + 10], abs=0.01)


async def test_a_lifespan_that_ends_in_time_is_not_left() -> None:
    left: list[bool] = []
    runtime = Runtime([idle], drain=Drain(), drain_deadline=10, on_stalled=lambda _: left.append(True))
    async with runtime.running():
        os.kill(os.getpid(), DRAIN_SIGNAL)
        await anyio.sleep(9)
    await anyio.sleep(30)
    assert left == []


def test_a_runtime_may_be_made_before_there_is_a_loop() -> None:
    assert Runtime([idle], drain=nothing).state is RuntimeState.STARTING


def test_the_drain_signal_does_not_kill_who_does_not_listen() -> None:
    os.kill(os.getpid(), DRAIN_SIGNAL)


async def test_a_failure_to_start_is_raised() -> None:
    async def broken(*, task_status: TaskStatus[None]) -> None:
        raise OSError("no table")

    with pytest.raises(ExceptionGroup) as caught:
        async with Runtime([idle, broken], drain=nothing).running():
            pytest.fail("the body may not run")
    assert caught.group_contains(OSError, match="no table")


async def test_a_crash_stops_the_process_and_is_remembered() -> None:
    stopped = anyio.Event()
    runtime = Runtime([idle, fragile], drain=anyio.sleep_forever, drain_deadline=99, on_crash=stopped.set)
    started_at = anyio.current_time()
    async with runtime.running():
        await stopped.wait()  # the web server after the signal to stop
    assert runtime.state is RuntimeState.CRASHED
    assert isinstance(runtime.crash, ExceptionGroup)
    assert anyio.current_time() - started_at == pytest.approx(5, abs=0.01)  # a drain would wait for the dead


async def test_a_crash_ends_the_drain_it_interrupts() -> None:
    runtime = Runtime([fragile], drain=anyio.sleep_forever, drain_deadline=99, on_crash=lambda: None)
    started_at = anyio.current_time()
    async with runtime.running():
        pass
    assert runtime.state is RuntimeState.CRASHED
    assert anyio.current_time() - started_at == pytest.approx(5, abs=0.01)


def test_stopping_the_process_is_what_an_orchestrator_would_do() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    try:
        stop_process()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


@pytest.fixture
def failing_log() -> Iterator[None]:
    """Let every call of a logger raise, as one without our configuration does once its pipe is closed."""

    def fail(*_: object) -> NoReturn:
        raise BrokenPipeError("the reader of the log ended")

    structlog.configure(processors=[fail])
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("failing_log")
async def test_f1_a_crash_that_cannot_be_logged_stops_the_process() -> None:
    stopped: list[float] = []

    def stop() -> None:
        stopped.append(anyio.current_time())

    with suppress(ExceptionGroup):
        async with Runtime([fragile], drain=nothing, on_crash=stop).running():
            started_at = anyio.current_time()
            await anyio.sleep(6)
    assert stopped == pytest.approx([started_at + 5], abs=0.01)


@pytest.mark.usefixtures("failing_log")
async def test_f1_a_drain_that_cannot_be_logged_leaves_no_actor() -> None:
    with anyio.fail_after(60), suppress(ExceptionGroup):
        async with Runtime([idle], drain=nothing).running():
            pass


@pytest.mark.usefixtures("failing_log")
async def test_f1_a_stalled_end_that_cannot_be_logged_is_still_left() -> None:
    left: list[int] = []
    with suppress(ExceptionGroup):
        async with Runtime([idle], drain=Drain(), drain_deadline=10, on_stalled=left.append).running():
            os.kill(os.getpid(), DRAIN_SIGNAL)
            await anyio.sleep(30)
    assert left in ([], [0])


async def test_f1_a_crash_during_a_response_that_is_not_read_is_left_with_one() -> None:
    left: list[tuple[int, float]] = []

    def leave(code: int) -> None:
        left.append((code, anyio.current_time()))

    runtime = Runtime([fragile], drain=nothing, drain_deadline=10, on_crash=lambda: None, on_stalled=leave)
    async with runtime.running():
        started_at = anyio.current_time()
        await anyio.sleep(60)
    ((code, left_at),) = left
    assert code == 1
    assert left_at == pytest.approx(started_at + 15, abs=0.01)


@pytest.mark.parametrize("code", [0, 1])
def test_f1_the_process_exits_also_if_its_output_cannot_be_flushed(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def flush(self) -> NoReturn:
            raise BrokenPipeError

    exits: list[int] = []
    monkeypatch.setattr(sys, "stdout", Broken())
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(os, "_exit", exits.append)
    exit_process(code)
    assert exits == [code]
