"""Several processes with ownership actors, in one loop over one table. Their shards are only recorded."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Generator
from contextlib import asynccontextmanager
from functools import partial
from types import coroutine
from typing import Any

import anyio
from anyio.abc import TaskGroup

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ids import SHARDS
from bg_ingest.domain.ownership import SHARED_TIMINGS, Lease, OwnershipTimings
from bg_ingest.errors import StoreUnavailable
from bg_ingest.ports.table import Table
from bg_ingest.services.budget.demand import Demand
from bg_ingest.services.budget.provider import SharedBudget
from bg_ingest.store import Store
from tests.fakes.counting_table import CountingTable
from tests.fakes.faults import CallWrapper
from tests.harness.service import LoopClock
from workers.handover import OwnershipView
from workers.ownership import Ownership


class RecordingConsumer:
    """Records its shards. ``finish_seconds`` is the time that a shard takes to finish."""

    def __init__(self) -> None:
        self.shards: dict[int, int] = {}
        self.finish_seconds: dict[int, float] = {}
        self.dropped: list[tuple[float, int]] = []

    def add_shards(self, taken: Collection[Lease]) -> None:
        self.shards |= {lease.shard: lease.epoch for lease in taken}

    def cancel(self, shards: Collection[int]) -> None:
        for shard in shards:
            self.shards.pop(shard, None)
            self.dropped.append((anyio.current_time(), shard))

    async def finish(self, shards: Collection[int]) -> None:
        for shard in shards:
            self.shards.pop(shard, None)
            await anyio.sleep(self.finish_seconds.get(shard, 0.0))


class Suspension:
    """Suspends a process as SIGSTOP does: awaited events still happen, and are noticed after waking."""

    def __init__(self) -> None:
        self.awake = anyio.Event()
        self.awake.set()

    def suspend(self) -> None:
        if self.awake.is_set():
            self.awake = anyio.Event()

    def wake(self) -> None:
        self.awake.set()

    @coroutine
    def over(self, inner: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Run a coroutine without taking a step while suspended, neither after a timer nor after a cancellation."""
        step: Callable[[], Any] = partial(inner.send, None)
        while True:
            try:
                awaited = step()
            except StopIteration:
                return
            try:
                answer = yield awaited
            except BaseException as error:  # noqa: BLE001 - a cancellation, thrown on waking
                step = partial(inner.throw, error)
            else:
                step = partial(inner.send, answer)
            if not self.awake.is_set():
                yield from self._slept().__await__()

    async def _slept(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.awake.wait()


class CuttableTable(CallWrapper):
    """Connection of a process to the table. While cut, no call is answered; while suspended, none returns."""

    cut = False

    def __init__(self, inner: Any, suspension: Suspension) -> None:
        super().__init__(inner)
        self._suspension = suspension

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await self._pass()
        answer = await call()
        await self._pass()
        return answer

    async def _pass(self) -> None:
        await self._suspension.awake.wait()
        if self.cut:
            await anyio.sleep(4)
            raise StoreUnavailable


class OwnerProcess:
    """One process with an ownership actor."""

    def __init__(self, name: str, table: Any, clock: LoopClock, timings: OwnershipTimings) -> None:
        self.suspension = Suspension()
        self.wire = CuttableTable(table, self.suspension)
        untyped_table: Any = self.wire
        self.store = Store(untyped_table, clock)
        self.served = RecordingConsumer()
        self.view = OwnershipView(timings.valid_for)
        budget = SharedBudget(self.store.budgets, {}, clock, ProviderLimit(60_000))
        self.ownership = Ownership(
            self.store.ownership,
            self.view,
            self.served,
            name,
            timings=timings,
            demand=Demand(budget, PollDefaults()),
            inherit_requests=lambda _: None,
        )
        self.scope = anyio.CancelScope()

    @property
    def shards(self) -> set[int]:
        return set(self.served.shards)

    def owns(self, shard: int) -> bool:
        """Return True if it may act for a shard now."""
        return shard in self.owned()

    def owned(self) -> set[int]:
        """Return the shards that it may act for now."""
        return {shard for shard in self.view.serving if self.view.epoch(shard)} if self.view.is_valid() else set()

    async def run(self, *, task_status: Any) -> None:
        with self.scope:
            await self.suspension.over(self.ownership(task_status=task_status))

    def kill(self) -> None:
        self.scope.cancel()
        self.suspension.wake()

    async def stop(self) -> None:
        self.suspension.wake()
        await self.ownership.drain()
        self.scope.cancel()


class OwnerGroup:
    """Processes over one table."""

    def __init__(self, table: Any, group: TaskGroup, timings: OwnershipTimings) -> None:
        self.table = table
        self.clock = LoopClock()
        self.processes: list[OwnerProcess] = []
        self._group = group
        self._timings = timings

    async def start(self, around: Callable[[Table], Any] = lambda table: table) -> OwnerProcess:
        number = len(self.processes)
        process = OwnerProcess(f"p{number}", around(self.table), self.clock, self._timings)
        self.processes.append(process)
        await self._group.start(process.run)
        return process

    async def restart(self, process: OwnerProcess) -> None:
        """Start the actor of a process again, as after its crash."""
        process.scope = anyio.CancelScope()
        await self._group.start(process.run)

    def is_balanced(self, *processes: OwnerProcess) -> bool:
        """Return True if these processes share all shards, with sizes that differ by at most one."""
        sizes = sorted(len(process.shards) for process in processes)
        whole = set().union(*(process.shards for process in processes)) == set(range(SHARDS))
        return whole and sum(sizes) == SHARDS and sizes[-1] - sizes[0] <= 1

    async def until_balanced(self, *processes: OwnerProcess, within: float = 60.0) -> float:
        """Wait for a balance and return the seconds it took."""
        began = anyio.current_time()
        while not self.is_balanced(*processes):
            assert anyio.current_time() - began < within, [len(process.shards) for process in processes]
            await anyio.sleep(0.1)
        return anyio.current_time() - began


@asynccontextmanager
async def open_owners(
    timings: OwnershipTimings = SHARED_TIMINGS, counted: Callable[[Table], Any] = CountingTable
) -> AsyncIterator[OwnerGroup]:
    async with open_table(None, LoopClock()) as table, anyio.create_task_group() as group:
        owners = OwnerGroup(counted(table), group, timings)
        try:
            yield owners
        finally:
            for process in owners.processes:
                process.kill()
        group.cancel_scope.cancel()
