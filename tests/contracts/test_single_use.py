"""OAuth states: single-use, also by concurrent requests, and gone once expired."""

from datetime import timedelta

import anyio

from bg_ingest.store import Store
from tests.fakes.clock import NOON
from tests.harness.sample_values import USER


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
