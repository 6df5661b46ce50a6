"""Sharing shards, as arithmetic."""

from collections import Counter

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


@given(NAMES, st.integers(1, 300))
def test_shares_add_up_and_no_two_differ_by_more_than_one(names: list[str], shards: int) -> None:
    shares = [fair_share(owners(*names), name, shards=shards) for name in names]
    assert sum(shares) == shards
    assert max(shares) - min(shares) <= 1


def test_who_leaves_or_is_not_listed_has_no_share() -> None:
    all_of_them = (*owners("a", "b"), Owner("c", leaving=True))
    assert [fair_share(all_of_them, name, shards=10) for name in "abcd"] == [5, 5, 0, 0]


@given(NAMES, st.lists(OWNERS, min_size=SHARDS, max_size=SHARDS))
def test_processes_that_see_the_same_rows_reach_for_different_shards_and_settle_at_once(
    names: list[str], had: list[str | None]
) -> None:
    board = OwnershipSnapshot(tuple(Lease(shard, 1, owner) for shard, owner in enumerate(had)), owners(*names))
    after: dict[int, str] = {shard: owner for shard, owner in enumerate(had) if owner in names and owner is not None}
    decided = {
        name: plan_rebalance(board, name, {n: 1 for n, owner in after.items() if owner == name}) for name in names
    }
    taken = [lease.shard for each in decided.values() for lease in each.take]
    assert len(taken) == len(set(taken))
    assert not set(taken) & after.keys(), "nobody takes what a living process has"
    for name, each in decided.items():
        assert not each.lost
        assert not each.adopt
        after |= {lease.shard: name for lease in each.take}
        for lease in each.release:
            assert after.pop(lease.shard) == name
    free = SHARDS - len(after)
    assert free == sum(len(each.release) for each in decided.values()), "whatever was free before has an owner now"
    sizes = Counter(after.values())
    assert all(sizes[name] <= fair_share(board.owners, name, shards=SHARDS) for name in names)


def test_what_the_rows_say_is_ours_but_is_not_served_is_adopted_and_what_moved_is_lost() -> None:
    board = OwnershipSnapshot(
        (Lease(0, 3, "me"), Lease(1, 5, "you"), Lease(2, 2, "me"), Lease(3, 9, "me")), owners("me")
    )
    decided = plan_rebalance(board, "me", {1: 4, 2: 2, 3: 8})
    assert [each.shard for each in decided.adopt] == [0, 3]
    assert set(decided.lost) == {1, 3}, "3 is ours under a later epoch than the one we know"
    assert [each.shard for each in decided.take] == [1], "you are not among the owners"


def test_what_is_being_given_back_is_neither_taken_nor_adopted_again() -> None:
    board = OwnershipSnapshot((Lease(0, 3, "me"), Lease(1, 4, None, "me")), owners("me"))
    decided = plan_rebalance(board, "me", {}, leaving={0, 1})
    assert (decided.take, decided.adopt, decided.release) == ((), (), ())


def test_a_heartbeat_must_stand_still_for_a_whole_ttl_between_an_answer_and_a_later_question() -> None:
    you = Owner("you", heartbeat=4)
    watch = track_heartbeats({}, [you, Owner("me")], answered_at=10.0)
    assert not find_dead(watch, [you], "me", read_started_at=24.9, ttl=15)
    assert find_dead(watch, [you], "me", read_started_at=25.0, ttl=15) == [you]
    moved = Owner("you", heartbeat=5)
    assert not find_dead(watch, [moved], "me", read_started_at=60, ttl=15)
    assert track_heartbeats(watch, [moved], answered_at=61.0)["you"] == (5, 61.0)
    assert track_heartbeats(watch, [you], answered_at=61.0)["you"] == (4, 10.0)
    assert not find_dead(watch, [Owner("me")], "me", read_started_at=99, ttl=15)
