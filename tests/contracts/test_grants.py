"""Single-use refresh tokens: the claim, the stored pair, and the errors of a process that lost the race."""

from datetime import timedelta

import pytest

from bg_ingest.domain.grants import Grant
from bg_ingest.errors import StaleRead
from bg_ingest.store import Store
from tests.fakes.clock import NOON
from tests.harness.sample_values import ACME, commit_connection, grant, replaced_fields


async def current(store: Store) -> Grant | None:
    return (await store.connections.get_with_grant(ACME))[1]


async def test_a_claim_is_written_beside_the_grant(store: Store) -> None:
    await commit_connection(store)
    await store.grants.claim(grant(), "mine")
    assert await current(store) == grant(claim="mine")


async def test_of_two_claims_one_holds(store: Store) -> None:
    await commit_connection(store)
    await store.grants.claim(grant(), "mine")
    with pytest.raises(StaleRead):
        await store.grants.claim(grant(), "theirs")
    assert await current(store) == grant(claim="mine")


async def test_an_unchanged_claim_is_taken_over_by_a_process_that_saw_it(store: Store) -> None:
    await commit_connection(store)
    await store.grants.claim(grant(), "dead")
    with pytest.raises(StaleRead):
        await store.grants.claim(grant(claim="another"), "mine")
    await store.grants.claim(grant(claim="dead"), "mine")
    assert await current(store) == grant(claim="mine")


@pytest.mark.parametrize("seen", [grant(2), grant(0), grant(generation="second")])
async def test_a_grant_that_is_no_longer_as_seen_is_not_claimed(store: Store, seen: Grant) -> None:
    await commit_connection(store)
    with pytest.raises(StaleRead):
        await store.grants.claim(seen, "mine")
    assert await current(store) == grant()


async def test_nothing_is_claimed_or_stored_where_there_is_no_grant(store: Store) -> None:
    with pytest.raises(StaleRead):
        await store.grants.claim(grant(), "mine")
    for version in (1, 2):
        with pytest.raises(StaleRead):
            await store.grants.store(grant(version))
    assert await current(store) is None


@pytest.mark.parametrize("claim", [None, "mine", "theirs"])
async def test_a_new_pair_replaces_the_previous_one_under_any_claim(store: Store, claim: str | None) -> None:
    await commit_connection(store)
    if claim:
        await store.grants.claim(grant(), claim)
    await store.grants.store(grant(2, claim="mine"))
    assert await current(store) == grant(2)


@pytest.mark.parametrize("other", [grant(3), grant(1, sealed=b"other"), grant(2, generation="second")])
async def test_only_the_next_version_of_the_same_generation_is_stored(store: Store, other: Grant) -> None:
    await commit_connection(store)
    with pytest.raises(StaleRead):
        await store.grants.store(other)
    assert await current(store) == grant()


async def test_of_two_new_pairs_the_second_is_not_stored_and_learns_it(store: Store) -> None:
    await commit_connection(store)
    await store.grants.store(grant(2, sealed=b"one"))
    with pytest.raises(StaleRead):
        await store.grants.store(grant(2, sealed=b"two"))
    assert await current(store) == grant(2, sealed=b"one")


async def test_storing_a_pair_again_after_its_reply_was_lost_succeeds(store: Store) -> None:
    await commit_connection(store)
    for _ in range(2):
        await store.grants.store(grant(2))
    assert await current(store) == grant(2)


async def test_refusals_are_counted_beside_the_tokens_and_end_the_claim(store: Store) -> None:
    await commit_connection(store)
    retry_at = NOON + timedelta(minutes=10)
    await store.grants.claim(grant(), "mine")
    await store.grants.store(grant(claim="mine", refusals=1, retry_at=retry_at))
    assert await current(store) == grant(refusals=1, retry_at=retry_at)
    await store.grants.store(grant(refusals=0))
    assert await current(store) == grant()


@pytest.mark.parametrize("claim", [None, "mine"])
async def test_counting_a_refusal_does_not_end_anothers_claim(store: Store, claim: str | None) -> None:
    await commit_connection(store)
    await store.grants.claim(grant(), "theirs")
    with pytest.raises(StaleRead):
        await store.grants.store(grant(claim=claim, refusals=1))
    assert await current(store) == grant(claim="theirs")


async def test_counting_a_refusal_again_after_its_reply_was_lost_succeeds(store: Store) -> None:
    await commit_connection(store)
    await store.grants.claim(grant(), "mine")
    for _ in range(2):
        await store.grants.store(grant(claim="mine", refusals=1))
    assert await current(store) == grant(refusals=1)


async def test_a_new_pair_may_carry_the_refusals_on(store: Store) -> None:
    await commit_connection(store)
    await store.grants.store(grant(2, refusals=2))
    assert await current(store) == grant(2, refusals=2)


async def test_a_new_connect_replaces_the_grant_of_an_older_generation(store: Store) -> None:
    active = await commit_connection(store)
    await store.grants.store(grant(2))
    await commit_connection(store, replaced_fields(active, generation="second"))
    assert await current(store) == grant(1, generation="second")
    with pytest.raises(StaleRead):
        await store.grants.store(grant(3))
