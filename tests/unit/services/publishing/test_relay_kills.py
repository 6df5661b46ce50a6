"""A process that is killed before or after any of its calls: its successor publishes all changes, each in its order."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.changes import Change
from bg_ingest.domain.commits import ConnectionUpdate, plan_erasure
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.errors import StoreUnavailable
from bg_ingest.ports import Observer
from bg_ingest.ports.table import Table
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.publishing.relay import Relay
from bg_ingest.store import Store
from tests.fakes.faults import CallWrapper
from tests.harness.sample_values import connection, connection_commit, listed_commit, replaced_fields
from tests.harness.service import LoopClock
from workers.relay import RelayActor

ADA = UserId("ada")
SHARD = shard_of(ADA)
ALL_CALLS = 60
"""More calls than an undisturbed life makes."""


class Life:
    """Calls of one process to table and broker. The process is killed at one of them and makes no other."""

    def __init__(self, killed_at: int = 0, *, done: bool = False) -> None:
        self.calls = 0
        self._killed_at, self._done = killed_at, done
        self.killed = anyio.Event()

    async def around(self, call: Callable[[], Awaitable[Any]]) -> Any:
        self.calls += 1
        if self.calls == self._killed_at:
            self.killed.set()
            if self._done:
                await call()
        if self.killed.is_set():
            await anyio.sleep_forever()
        return await call()


class LivingCalls(CallWrapper):
    def __init__(self, inner: Any, life: Life) -> None:
        super().__init__(inner)
        self._life = life

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        return await self._life.around(call)


class Broker:
    """Publisher that keeps what all processes published."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    async def publish(self, change: Change) -> bool:
        self.numbers.append(change.number)
        return True


class Process:
    """The relay of one process, and commits by it."""

    def __init__(self, table: Table, broker: Broker, clock: LoopClock, life: Life) -> None:
        self.store = Store(cast("Table", LivingCalls(table, life)), clock)
        self.actor = RelayActor(Relay(self.store.outbox, cast("Any", LivingCalls(broker, life)), Observer()))
        self.committer = Committer(self.store, Observer(), self)
        self.clock = clock

    def wake_poller(self, connection: ConnectionId) -> None: ...

    def wake_relay(self, changes: Sequence[Change]) -> None:
        self.actor.on_committed(changes)

    def check_relay(self, user: UserId) -> None:
        self.actor.wake(user)

    async def take(self) -> None:
        self.actor.add_directory(SHARD, await self.store.outbox.read_directory(SHARD))
        await anyio.sleep(0.1)

    async def commit(self) -> None:
        await self.committer.commit(await listed_commit(self.store, ADA, self.clock.now()))
        await anyio.sleep(0.1)

    async def disconnect(self) -> None:
        active = connection(id=ConnectionId(ADA, "acme"), provider_account=ADA)
        gone = replaced_fields(active, state=ConnectionState.DISCONNECTED)
        head = await self.store.readings.head(ADA)
        await self.committer.commit(connection_commit(head, active, gone, drop_grant=True))
        await anyio.sleep(0.1)
        reconnected = await listed_commit(self.store, ADA, self.clock.now())
        await self.committer.commit(replaced_fields(reconnected, connection_update=ConnectionUpdate(gone, active)))

    async def erase(self) -> None:
        head = await self.store.readings.head(ADA)
        connections = await self.store.connections.list_for_user(ADA)
        await self.committer.begin_erasure(plan_erasure(ADA, head, connections, self.clock.now()))
        await anyio.sleep(0.1)

    async def live(self) -> None:
        """Take the shard, commit, disconnect, connect again, read the directory again, commit, and release."""
        await self.take()
        for _ in range(2):
            await self.commit()
        await self.disconnect()
        await self.take()
        await self.commit()
        await self.actor.finish([SHARD])


async def run_until_killed(process: Process, life: Life, script: Callable[[], Awaitable[None]]) -> None:
    """Run the actor and a script; both end at once if the process is killed."""
    ended = anyio.Event()

    async def run() -> None:
        with suppress(StoreUnavailable):  # the commit's shield ends with this error after the kill
            await script()
        ended.set()

    async with anyio.create_task_group() as group:
        await group.start(process.actor)
        group.start_soon(run)
        group.start_soon(stop_at, life.killed, group.cancel_scope)
        await ended.wait()
        group.cancel_scope.cancel()


async def stop_at(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    await anyio.lowlevel.checkpoint()
    scope.cancel()


async def succeed(table: Table, broker: Broker, clock: LoopClock) -> int:
    """Let a successor take the shard and release it; return the user's last number. Nothing waits afterwards."""
    life = Life()
    successor = Process(table, broker, clock, life)

    async def script() -> None:
        await successor.take()
        await successor.actor.finish([SHARD])

    await run_until_killed(successor, life, script)
    store = Store(table, clock)
    assert await store.outbox.list_shard(SHARD) == []
    head = await store.readings.head(ADA)
    return head.last_change if head else 0


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
async def test_a_kill_at_any_call_loses_no_change_and_publishes_none_too_early(*, done: bool) -> None:
    for killed_at in range(1, ALL_CALLS):
        clock, broker, life = LoopClock(), Broker(), Life(killed_at, done=done)
        async with open_table(None, clock) as table:
            first = Process(table, broker, clock, life)
            await run_until_killed(first, life, first.live)
            newest = await succeed(table, broker, clock)
            assert list(dict.fromkeys(broker.numbers)) == list(range(1, newest + 1)), killed_at
            if not life.killed.is_set():
                assert len(broker.numbers) == newest == 5, "a life without a kill repeats nothing"
                return
    pytest.fail("a life has more calls than this test expects")


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
async def test_a_kill_between_commit_erasure_and_publication_publishes_the_erasure_last(*, done: bool) -> None:
    for killed_at in range(1, ALL_CALLS):
        clock, broker, life = LoopClock(), Broker(), Life(killed_at, done=done)
        async with open_table(None, clock) as table:
            first = Process(table, broker, clock, life)

            async def script(process: Process = first) -> None:
                await process.take()
                await process.commit()
                await process.erase()
                await process.actor.finish([SHARD])

            await run_until_killed(first, life, script)
            newest = await succeed(table, broker, clock)
            assert broker.numbers == sorted(broker.numbers), killed_at
            assert broker.numbers[-1:] == [newest][:newest], killed_at
            if not life.killed.is_set():
                return
    pytest.fail("a life has more calls than this test expects")
