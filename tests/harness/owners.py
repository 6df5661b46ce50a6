"""Several processes that look after ownership, in one loop over one table; what they serve is only noted."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Generator
from contextlib import asynccontextmanager
from functools import partial
from types import coroutine
from typing import Any

import anyio
from anyio.abc import TaskGroup

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.ids import SHARDS
from bg_ingest.domain.ownership import SHARED_TIMINGS, Lease, OwnershipTimings
from bg_ingest.errors import StoreUnavailable
from bg_ingest.ports.table import Table
from bg_ingest.store import Store
from tests.fakes.counting_table import CountingTable
from tests.fakes.faults import CallWrapper
from tests.harness.service import LoopClock
from workers.ownership import Ownership


class RecordingConsumer:
    """What is done with shards: nothing. ``restless`` shards take so many seconds to come to rest."""

    def __init__(self) -> None:
        self.shards: dict[int, int] = {}
        self.finish_seconds: dict[int, float] = {}
        self.dropped: list[tuple[float, int]] = []

    def add_shards(self, taken: Collection[Lease]) -> None:
        self.shards |= {each.shard: each.epoch for each in taken}

    def cancel(self, shards: Collection[int]) -> None:
        for shard in shards:
            self.shards.pop(shard, None)
            self.dropped.append((anyio.current_time(), shard))

    async def finish(self, shards: Collection[int]) -> None:
        for shard in shards:
            self.shards.pop(shard, None)
            await anyio.sleep(self.finish_seconds.get(shard, 0.0))


class Suspension:
    """Has a process stand still, as SIGSTOP does: what it waits for goes on happening, and is noticed on waking."""

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
        """Run a coroutine of which no step, be it after a timer or a cancellation, is taken while suspended."""
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
    """A process's way to the table; cut, no call gets an answer. Of a suspended process no call goes on."""

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
    """One of them."""

    def __init__(self, name: str, table: Any, clock: LoopClock, timings: OwnershipTimings) -> None:
        self.suspension = Suspension()
        self.wire = CuttableTable(table, self.suspension)
        way: Any = self.wire
        self.store = Store(way, clock)
        self.served = RecordingConsumer()
        self.ownership = Ownership(self.store.ownership, self.served, name, timings=timings)
        self.scope = anyio.CancelScope()

    @property
    def shards(self) -> set[int]:
        return set(self.served.shards)

    def owns(self, shard: int) -> bool:
        """Whether it would act for a shard now."""
        return shard in self.owned()

    def owned(self) -> set[int]:
        """Return the shards it would act for now."""
        ownership = self.ownership
        return {each for each in ownership.serving if ownership.epoch(each)} if ownership.is_valid() else set()

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
    """All of them."""

    def __init__(self, table: Any, group: TaskGroup, timings: OwnershipTimings) -> None:
        self.table = table
        self.clock = LoopClock()
        self.processes: list[OwnerProcess] = []
        self._group = group
        self._tempo = timings

    async def start(self, around: Callable[[Table], Any] = lambda table: table) -> OwnerProcess:
        number = len(self.processes)
        process = OwnerProcess(f"p{number}", around(self.table), self.clock, self._tempo)
        self.processes.append(process)
        await self._group.start(process.run)
        return process

    async def restart(self, process: OwnerProcess) -> None:
        """Start the actor of a process once more, as after a crash of its own."""
        process.scope = anyio.CancelScope()
        await self._group.start(process.run)

    def is_balanced(self, *processes: OwnerProcess) -> bool:
        """Whether these share all shards, none has two more than another, and nobody else acts for one."""
        sizes = sorted(len(each.shards) for each in processes)
        whole = set().union(*(each.shards for each in processes)) == set(range(SHARDS))
        return whole and sum(sizes) == SHARDS and sizes[-1] - sizes[0] <= 1

    async def until_balanced(self, *processes: OwnerProcess, within: float = 60.0) -> float:
        """Return after how many seconds it was so."""
        began = anyio.current_time()
        while not self.is_balanced(*processes):
            assert anyio.current_time() - began < within, [len(each.shards) for each in processes]
            await anyio.sleep(0.1)
        return anyio.current_time() - began


@asynccontextmanager
async def open_owners(
    timings: OwnershipTimings = SHARED_TIMINGS, counted: Callable[[Table], Any] = CountingTable
) -> AsyncIterator[OwnerGroup]:
    async with open_table(None, LoopClock()) as table, anyio.create_task_group() as group:
        everybody = OwnerGroup(counted(table), group, timings)
        try:
            yield everybody
        finally:
            for each in everybody.processes:
                each.kill()
        group.cancel_scope.cancel()
