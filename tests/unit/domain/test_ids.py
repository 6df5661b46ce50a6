"""Ids of users, and the fixed numbers that follow from them."""

from collections import Counter

import pytest

from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId, is_user_id, shard_of

USERS = [UserId(f"user-{number}") for number in range(10_000)]


@pytest.mark.parametrize("text", ["a", "Ada_Lovelace", "ada@example.org", "auth0|5f7c", "0:1.2-3", "x" * 128])
def test_a_user_id_is_accepted(text: str) -> None:
    assert is_user_id(text)


@pytest.mark.parametrize("text", ["", "a#b", "#", "-a", "@a", "a b", "a/b", "a\n", "ä", "x" * 129])
def test_a_text_that_is_no_user_id_is_refused(text: str) -> None:
    assert not is_user_id(text)


def test_users_are_spread_evenly_over_the_shards() -> None:
    sizes = Counter(shard_of(user) for user in USERS)
    assert set(sizes) == set(range(SHARDS))
    assert max(sizes.values()) < 2 * len(USERS) / SHARDS


def test_the_shard_of_a_user_is_the_same_in_every_version() -> None:
    assert [shard_of(UserId(user)) for user in ("ada", "ben", "cyd")] == [198, 36, 147]


def test_jitter_is_fixed_and_spread_over_the_connections() -> None:
    jitters = [ConnectionId(user, "acme").jitter for user in USERS]
    assert jitters == [ConnectionId(user, "acme").jitter for user in USERS]
    assert all(0 <= jitter < 1 for jitter in jitters)
    tenths = Counter(int(10 * jitter) for jitter in jitters)
    assert max(tenths.values()) < 1.2 * len(USERS) / 10
    assert ConnectionId(USERS[0], "acme").jitter != ConnectionId(USERS[0], "other").jitter


def test_a_connection_is_named_by_user_and_provider() -> None:
    assert str(ConnectionId(UserId("ada"), "acme")) == "ada/acme"
