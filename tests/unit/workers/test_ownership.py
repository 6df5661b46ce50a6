"""Owners of shards: a single process, joining, leaving, dying, cut off, declared dead by mistake."""

import anyio
import pytest

from bg_ingest.domain.ids import SHARDS
from bg_ingest.domain.ownership import EXCLUSIVE_TIMINGS, SHARED_TIMINGS
from bg_ingest.ports.table import Delete
from bg_ingest.store import keys
from tests.fakes.faults import ConflictingCalls, Fault, FaultyCalls, at
from tests.harness.owners import open_owners

TTL = SHARED_TIMINGS.ttl


async def test_a_process_alone_serves_everything_before_it_says_that_it_has_started() -> None:
    async with open_owners() as all_of_them:
        alone = await all_of_them.start()
        assert alone.shards == set(range(SHARDS))


async def test_processes_that_join_get_their_share_within_seconds() -> None:
    async with open_owners() as all_of_them:
        first = await all_of_them.start()
        second = await all_of_them.start()
        assert await all_of_them.until_balanced(first, second) <= 4
        third = await all_of_them.start()
        assert await all_of_them.until_balanced(first, second, third) <= 4


@pytest.mark.slow
async def test_no_shard_moves_while_no_process_joins_or_leaves() -> None:
    async with open_owners() as all_of_them:
        processes = [await all_of_them.start() for _ in range(3)]
        await all_of_them.until_balanced(*processes)
        await anyio.sleep(5)
        before = [dict(each.served.shards) for each in processes]
        writes, transactions = all_of_them.table.writes, all_of_them.table.transactions
        await anyio.sleep(600)
        assert [each.served.shards for each in processes] == before
        heartbeats = all_of_them.table.writes - writes
        assert heartbeats == pytest.approx(3 * 600 / 6, abs=3), "a heartbeat every fourth round"
        assert all_of_them.table.transactions == transactions


async def test_a_process_that_stops_hands_over_what_is_quiet_without_waiting_for_the_rest() -> None:
    async with open_owners() as all_of_them:
        leaving = await all_of_them.start()
        async with anyio.create_task_group() as group:
            staying = await all_of_them.start()
            await all_of_them.until_balanced(leaving, staying)
            busy = next(iter(leaving.shards))
            leaving.served.finish_seconds = {busy: 12.0}
            group.start_soon(leaving.stop)
            await anyio.sleep(2)
            assert staying.shards == set(range(SHARDS)) - {busy}
            await anyio.sleep(12)
            assert staying.shards == set(range(SHARDS))
        board = await staying.store.ownership.snapshot()
        assert [each.id for each in board.owners] == [staying.view.owner_id]


async def test_what_a_dead_process_served_is_taken_within_a_ttl_and_a_little() -> None:
    async with open_owners() as all_of_them:
        dying, other, another = [await all_of_them.start() for _ in range(3)]
        await all_of_them.until_balanced(dying, other, another)
        await anyio.sleep(7)
        dying.kill()
        dying.served.shards.clear()
        took = await all_of_them.until_balanced(other, another)
        assert TTL - SHARED_TIMINGS.heartbeat_every <= took <= TTL + 2 * SHARED_TIMINGS.snapshot_every + 0.1


async def test_a_process_cut_off_from_the_store_stops_before_its_shards_can_be_taken() -> None:
    async with open_owners() as all_of_them:
        cut, other = await all_of_them.start(), await all_of_them.start()
        await all_of_them.until_balanced(cut, other)
        await anyio.sleep(3)
        cut.wire.cut = True
        before = set(cut.shards)
        await all_of_them.until_balanced(other, within=30)
        assert not cut.shards
        left_at = {shard: at for at, shard in cut.served.dropped}
        assert left_at.keys() >= before
        assert max(left_at.values()) < anyio.current_time() - 1.0
        cut.wire.cut = False
        await all_of_them.until_balanced(cut, other, within=30)


async def test_a_heartbeat_sent_again_since_its_answer_was_lost_is_another_heartbeat() -> None:
    """Otherwise the sender counts from an answer, and the others from the earlier instant of the observed change."""
    fifth_call = anyio.Event()

    def lost_thrice(call: int) -> Fault | None:
        if call == 5:
            fifth_call.set()
        return Fault.AFTER if call in {2, 3, 4} else None  # the first is its entry

    async with open_owners() as all_of_them:
        other = await all_of_them.start()
        unheard = await all_of_them.start(lambda table: FaultyCalls(table, lost_thrice, only={"write"}))
        await all_of_them.until_balanced(unheard, other)
        await fifth_call.wait()
        await anyio.sleep(0.1)
        unheard.wire.cut = True
        await all_of_them.until_balanced(other, within=30)
        assert not unheard.shards


async def test_a_process_taken_for_dead_by_mistake_drops_everything_and_comes_back_under_a_new_name() -> None:
    async with open_owners() as all_of_them:
        mistaken, other = await all_of_them.start(), await all_of_them.start()
        await all_of_them.until_balanced(mistaken, other)
        name = mistaken.view.owner_id
        assert name is not None
        await all_of_them.table.write(Delete(keys.owner(name)))
        await anyio.sleep(SHARED_TIMINGS.snapshot_every + 0.1)
        await all_of_them.until_balanced(mistaken, other, within=20)
        assert mistaken.view.owner_id not in {None, name}


async def test_shards_whose_taking_went_unanswered_are_served_all_the_same() -> None:
    async with open_owners() as all_of_them:
        first = await all_of_them.start()
        second = await all_of_them.start(lambda table: FaultyCalls(table, at(1, Fault.AFTER), only={"transact"}))
        await all_of_them.until_balanced(first, second)


async def test_a_shard_whose_release_failed_is_given_back_again() -> None:
    async with open_owners() as all_of_them:
        first = await all_of_them.start(lambda table: FaultyCalls(table, at(7, Fault.BEFORE), only={"transact"}))
        second = await all_of_them.start()
        await all_of_them.until_balanced(first, second)
        await anyio.sleep(10)
        assert all_of_them.is_balanced(first, second)


@pytest.mark.slow
async def test_who_meets_others_at_the_shards_takes_what_they_left() -> None:
    async with open_owners() as all_of_them:
        first = await all_of_them.start(lambda table: ConflictingCalls(table, 3, 5))
        second = await all_of_them.start(lambda table: ConflictingCalls(table, 2, 3, 4))
        third = await all_of_them.start(
            lambda table: ConflictingCalls(table, *range(2, 50))
        )  # for longer than it retries
        await all_of_them.until_balanced(first, second, third)


async def test_who_stops_is_counted_on_no_more_though_the_store_did_not_take_it_at_once() -> None:
    async with open_owners() as all_of_them:
        staying = await all_of_them.start()
        trouble = FaultPlan()
        leaving = await all_of_them.start(lambda table: FaultyCalls(table, trouble, only={"write", "transact"}))
        await all_of_them.until_balanced(staying, leaving)
        busy = next(iter(leaving.shards))
        leaving.served.finish_seconds = {busy: 4.0}
        trouble.left = 2
        async with anyio.create_task_group() as group:
            group.start_soon(leaving.stop)
            await anyio.sleep(3)
            assert staying.shards == set(range(SHARDS)) - {busy}


async def test_who_stops_before_it_serves_anything_keeps_nothing_for_itself() -> None:
    async with open_owners() as all_of_them:
        staying, stopping = await all_of_them.start(), await all_of_them.start()
        assert not stopping.shards
        await stopping.stop()
        await anyio.sleep(3)
        assert staying.shards == set(range(SHARDS))
        board = await staying.store.ownership.snapshot()
        assert [each.id for each in board.owners] == [staying.view.owner_id]


async def test_what_was_at_rest_when_ownership_crashed_is_served_again() -> None:
    async with open_owners() as all_of_them:
        first = await all_of_them.start()
        first.served.finish_seconds = dict.fromkeys(range(SHARDS), 5.0)
        joining = await all_of_them.start()
        await anyio.sleep(3)
        assert len(first.shards) == SHARDS // 2
        first.kill()
        joining.kill()
        await joining.store.ownership.unregister(str(joining.view.owner_id))
        await all_of_them.restart(first)
        await all_of_them.until_balanced(first)


class FaultPlan:
    """Plan of faults that can be armed at any time: the given number of calls fail then."""

    left = 0

    def __call__(self, _: int) -> Fault | None:
        self.left -= 1
        return Fault.BEFORE if self.left >= 0 else None


async def test_a_slow_hand_over_delays_no_heartbeat() -> None:
    async with open_owners() as all_of_them:
        first = await all_of_them.start()
        first.served.finish_seconds = dict.fromkeys(range(SHARDS), 40.0)
        second = await all_of_them.start()
        await anyio.sleep(30)
        assert first.view.is_valid()
        assert len(first.shards) == SHARDS // 2
        await all_of_them.until_balanced(first, second)


async def test_a_process_that_has_the_store_to_itself_takes_its_time() -> None:
    async with open_owners(EXCLUSIVE_TIMINGS) as all_of_them:
        alone = await all_of_them.start()
        asked = all_of_them.table.asked
        await anyio.sleep(3700)
        reads, writes, _ = (now - then for now, then in zip(all_of_them.table.asked, asked, strict=True))
        assert (reads, writes) == (24, 4)
        assert alone.view.is_valid()
