"""One owner per shard at a time, and soon again one, although calls are delayed or lost and processes join and fail."""

from contextlib import suppress
from random import Random
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId, shard_of
from bg_ingest.domain.ownership import SHARED_TIMINGS
from bg_ingest.errors import Fenced, StoreError, StoreUnavailable
from tests.conftest import examples, on
from tests.fakes.faults import CallWrapper
from tests.harness.owners import OwnerGroup, OwnerProcess, open_owners
from tests.harness.sample_values import commit_connection, connection

anyio_backend = on("asyncio")  # the delays make it as random as two backends would

USERS = [UserId(f"u{number}") for number in range(4)]


class ErraticTable(CallWrapper):
    """Connection to the table with a delay before and after the effect of every call; some answers are lost."""

    def __init__(self, inner: Any, random: Random, *, longest: float, lost: float) -> None:
        super().__init__(inner)
        self._random = random
        self._longest = longest
        self._lost = lost

    async def _around(self, name: str, call: Any) -> Any:
        await anyio.sleep(self._random.uniform(0, self._longest))
        if self._random.random() < self._lost:
            raise StoreUnavailable
        answer = await call()
        await anyio.sleep(self._random.uniform(0, self._longest))
        if self._random.random() < self._lost:
            raise StoreUnavailable
        return answer


class WriteLog:
    """Epochs that owners wrote on connections, in the order in which the store accepted them."""

    def __init__(self, owners: OwnerGroup) -> None:
        self._owners = owners
        self.accepted: dict[ConnectionId, list[int]] = {}
        self.refused = 0

    async def go_on(self, process: OwnerProcess, random: Random) -> None:
        """Write as a poll does, based on an earlier read, under the epoch known at its beginning."""
        while True:
            await anyio.sleep(random.uniform(0.1, 1))
            owned = process.owned()
            mine = [user for user in USERS if shard_of(user) in owned]
            if not mine:
                continue
            connection_id = ConnectionId(random.choice(mine), "acme")
            epoch = process.view.epoch(shard_of(connection_id.user))
            assert epoch is not None
            await anyio.sleep(random.choice([0, 0, 1, 30]))  # the process may be suspended at any point
            await self.write(process, connection_id, epoch, random)

    async def write(self, process: OwnerProcess, connection_id: ConnectionId, epoch: int, random: Random) -> None:
        try:
            before = await process.store.connections.get(connection_id)
            assert before is not None
            await anyio.sleep(random.choice([0, 0, 20]))
            after = msgspec.structs.replace(before, epoch=epoch, cadence_seconds=random.randrange(10**9))
            await process.store.connections.update(before, after)
        except Fenced:
            self.refused += 1
        except StoreError:
            pass
        else:
            self.accepted.setdefault(connection_id, []).append(epoch)


async def never_two_owners(owners: OwnerGroup) -> None:
    while True:
        owned: set[int] = set()
        for each in owners.processes:
            mine = each.owned()
            assert not owned & mine, (each.view.owner_id, owned & mine)
            owned |= mine
        await anyio.sleep(0.2)


def disturb(process: OwnerProcess, how: str) -> None:
    if how in {"cut", "mend"}:
        process.wire.cut = how == "cut"
    elif how == "suspend":
        process.suspension.suspend()
    elif how == "wake":
        process.suspension.wake()


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["join", "kill", "stop", "cut", "mend", "suspend", "wake"]), st.integers(0, 9), st.floats(0, 25)
    ),
    max_size=6,
)


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32),
    longest=st.sampled_from([0.0, 0.05, 0.6]),
    lost=st.sampled_from([0.0, 0.02, 0.15]),
    events=EVENTS,
)
@settings(max_examples=examples(12))
async def test_case_44_one_owner_at_a_time_and_no_write_after_a_later_epochs(
    seed: int, longest: float, lost: float, events: list[tuple[str, int, float]]
) -> None:
    random = Random(seed)
    async with open_owners() as owners, anyio.create_task_group() as group:
        founder = await owners.start()
        for user in USERS:
            await commit_connection(founder.store, _connection(user))
        writes = WriteLog(owners)
        group.start_soon(never_two_owners, owners)
        alive = [founder]

        def erratic(table: Any) -> ErraticTable:
            return ErraticTable(table, random, longest=longest, lost=lost)

        for happens, whom, after in [("join", 0, 1.0), ("join", 0, 1.0), *events]:
            await anyio.sleep(after)
            process = alive[whom % len(alive)]
            if happens == "join":
                with suppress(StoreError, ExceptionGroup):  # a failed start does not count
                    alive.append(joined := await owners.start(erratic))
                    group.start_soon(writes.go_on, joined, random)
            elif happens in {"kill", "stop"} and len(alive) > 1:
                alive.remove(process)
                await process.stop() if happens == "stop" else process.kill()
            else:
                disturb(process, happens)
        for process in alive:
            process.wire.cut = False
            process.suspension.wake()
        await owners.until_balanced(*alive, within=120)
        await anyio.sleep(60)  # processes suspended before a write resume and try it
        for connection_id, epochs in writes.accepted.items():
            assert epochs == sorted(epochs), connection_id
        group.cancel_scope.cancel()


async def test_case_44_who_was_suspended_drops_on_waking_what_was_taken_and_its_late_write_is_refused() -> None:
    async with open_owners() as owners:
        first, second = await owners.start(), await owners.start()
        await owners.until_balanced(first, second)
        user = next(each for each in map("u{}".format, range(SHARDS)) if first.owns(shard_of(UserId(each))))
        connection_id, shard = ConnectionId(UserId(user), "acme"), shard_of(UserId(user))
        await commit_connection(second.store, _connection(connection_id.user))
        writes, had = WriteLog(owners), first.shards
        epoch = first.view.epoch(shard)
        assert epoch is not None
        first.suspension.suspend()
        async with anyio.create_task_group() as group:
            group.start_soon(writes.write, first, connection_id, epoch, Random(1))
            await anyio.sleep(SHARED_TIMINGS.ttl * 3)
            assert first.shards == had, "the distribution does not change"
            assert second.shards == set(range(SHARDS))
            later = second.view.epoch(shard)
            assert later is not None
            assert later > epoch
            await writes.write(second, connection_id, later, Random(1))
            first.suspension.wake()
        assert (writes.accepted[connection_id], writes.refused) == ([later], 1)
        assert {number for _, number in first.served.dropped} >= had
        await owners.until_balanced(first, second)


def _connection(user: UserId) -> Connection:
    return connection(id=ConnectionId(user, "acme"), provider_account=str(user))
