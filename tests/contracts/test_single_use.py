"""OAuth states: single-use, also by concurrent requests, and gone once expired. Webhook ids: known until then."""

from datetime import timedelta

import anyio
import pytest

from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.store import Store
from tests.fakes.clock import NOON
from tests.harness.sample_values import USER, connection

LATER = NOON + timedelta(days=4)


async def test_a_state_is_taken_once(store: Store) -> None:
    await store.states.add(USER, "random", b"content", NOON + timedelta(minutes=10))
    assert await store.states.consume("other", NOON) is None
    assert await store.states.consume("random", NOON) == b"content"
    assert await store.states.consume("random", NOON) is None


async def test_of_many_who_take_a_state_at_once_one_gets_it(store: Store) -> None:
    await store.states.add(USER, "random", b"content", NOON + timedelta(minutes=10))
    taken: list[bytes | None] = []

    async def take() -> None:
        taken.append(await store.states.consume("random", NOON))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(take)
    assert sorted(taken, key=bool) == [None] * 7 + [b"content"]


async def test_an_expired_state_is_gone_at_that_very_instant(store: Store) -> None:
    expires_at = NOON + timedelta(minutes=10)
    await store.states.add(USER, "random", b"content", expires_at)
    assert await store.states.consume("random", expires_at) is None
    assert await store.states.consume("random", expires_at - timedelta(seconds=1)) == b"content"


async def test_an_id_is_seen_from_its_note_until_it_expires(store: Store) -> None:
    assert not await store.webhooks.contains(connection(), "msg_1", NOON)
    await store.webhooks.add(connection(), "msg_1", LATER)
    await store.webhooks.add(connection(), "msg_1", LATER)
    assert await store.webhooks.contains(connection(), "msg_1", NOON)
    assert await store.webhooks.contains(connection(), "msg_1", LATER - timedelta(seconds=1))
    assert not await store.webhooks.contains(connection(), "msg_1", LATER)
    assert not await store.webhooks.contains(connection(), "msg_2", NOON)


@pytest.mark.parametrize("webhook_id", ["a" * 5_000, "a#b", "\xff\x00", "ä"])
async def test_an_id_may_be_any_header_value(store: Store, webhook_id: str) -> None:
    await store.webhooks.add(connection(), webhook_id, LATER)
    assert await store.webhooks.contains(connection(), webhook_id, NOON)
    assert not await store.webhooks.contains(connection(), webhook_id + "x", NOON)


async def test_an_id_is_known_to_one_connect_of_one_connection(store: Store) -> None:
    await store.webhooks.add(connection(), "msg_1", LATER)
    others = [
        connection(generation="second"),
        connection(id=ConnectionId(UserId("ada"), "other")),
        connection(id=ConnectionId(UserId("bob"), "acme")),
    ]
    for other in others:
        assert not await store.webhooks.contains(other, "msg_1", NOON)
