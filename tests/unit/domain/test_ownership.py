"""Distribution of shards: fair shares, steps of a rebalance, and the death of an owner."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.ownership import (
    Lease,
    Owner,
    OwnershipSnapshot,
    fair_share,
    find_dead,
    plan_rebalance,
    track_heartbeats,
)

SHARDS = 24
NAMES = st.lists(st.sampled_from([f"p{number}" for number in range(9)]), min_size=1, unique=True)
OWNERS = st.one_of(st.none(), st.sampled_from([f"p{number}" for number in range(12)]))


def owners(*names: str) -> tuple[Owner, ...]:
    return tuple(Owner(name) for name in names)


@pytest.mark.slow
@given(NAMES, st.integers(1, 300))
def test_shares_add_up_and_no_two_differ_by_more_than_one(names: list[str], shards: int) -> None:
    shares = [fair_share(owners(*names), name, shards=shards) for name in names]
    assert sum(shares) == shards
    assert max(shares) - min(shares) <= 1


def test_an_owner_that_leaves_or_is_not_listed_has_no_share() -> None:
    everyone = (*owners("a", "b"), Owner("c", leaving=True))
    assert [fair_share(everyone, name, shards=10) for name in "abcd"] == [5, 5, 0, 0]


@pytest.mark.slow
@given(NAMES, st.lists(OWNERS, min_size=SHARDS, max_size=SHARDS))
def test_processes_with_the_same_rows_take_different_shards_and_settle_at_once(
    names: list[str], owners_before: list[str | None]
) -> None:
    snapshot = OwnershipSnapshot(
        tuple(Lease(shard, 1, owner) for shard, owner in enumerate(owners_before)), owners(*names)
    )
    after: dict[int, str] = {
        shard: owner for shard, owner in enumerate(owners_before) if owner in names and owner is not None
    }
    plan = {
        name: plan_rebalance(snapshot, name, {n: 1 for n, owner in after.items() if owner == name}) for name in names
    }
    taken = [lease.shard for own_plan in plan.values() for lease in own_plan.take]
    assert len(taken) == len(set(taken))
    assert not set(taken) & after.keys(), "no process takes the shard of a living one"
    for name, own_plan in plan.items():
        assert not own_plan.lost
        assert not own_plan.adopt
        after |= {lease.shard: name for lease in own_plan.take}
        for lease in own_plan.release:
            assert after.pop(lease.shard) == name
    free = SHARDS - len(after)
    assert free == sum(len(own_plan.release) for own_plan in plan.values()), "every free shard has an owner now"
    sizes = Counter(after.values())
    assert all(sizes[name] <= fair_share(snapshot.owners, name, shards=SHARDS) for name in names)


def test_own_shards_that_are_not_served_are_adopted_and_shards_that_moved_are_lost() -> None:
    snapshot = OwnershipSnapshot(
        (Lease(0, 3, "me"), Lease(1, 5, "you"), Lease(2, 2, "me"), Lease(3, 9, "me")), owners("me")
    )
    plan = plan_rebalance(snapshot, "me", {1: 4, 2: 2, 3: 8})
    assert [lease.shard for lease in plan.adopt] == [0, 3]
    assert set(plan.lost) == {1, 3}, "3 is ours under a later epoch than the one we know"
    assert [lease.shard for lease in plan.take] == [1], "the owner of 1 is not among the owners"


def test_shards_being_released_are_neither_taken_nor_adopted_again() -> None:
    snapshot = OwnershipSnapshot((Lease(0, 3, "me"), Lease(1, 4, None, "me")), owners("me"))
    plan = plan_rebalance(snapshot, "me", {}, leaving={0, 1})
    assert (plan.take, plan.adopt, plan.release) == ((), (), ())


def test_a_dead_heartbeat_was_unchanged_for_a_whole_ttl_between_an_answer_and_a_later_read() -> None:
    you = Owner("you", heartbeat=4)
    heartbeats = track_heartbeats({}, [you, Owner("me")], answered_at=10.0)
    assert not find_dead(heartbeats, [you], "me", read_started_at=24.9, ttl=15)
    assert find_dead(heartbeats, [you], "me", read_started_at=25.0, ttl=15) == [you]
    moved = Owner("you", heartbeat=5)
    assert not find_dead(heartbeats, [moved], "me", read_started_at=60, ttl=15)
    assert track_heartbeats(heartbeats, [moved], answered_at=61.0)["you"] == (5, 61.0)
    assert track_heartbeats(heartbeats, [you], answered_at=61.0)["you"] == (4, 10.0)
    assert not find_dead(heartbeats, [Owner("me")], "me", read_started_at=99, ttl=15)
