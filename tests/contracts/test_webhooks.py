"""Ids of webhooks: stored with the last commit, known to one connect until they expire, and stored once at a time."""

from datetime import datetime, timedelta

import anyio
import pytest
from msgspec.structs import replace

from bg_ingest.domain.commits import ReceivedWebhook, StoredWebhookId
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.segments import segment_start
from bg_ingest.errors import Fenced, StaleRead, TransactionConflict
from bg_ingest.store import Store
from tests.fakes.clock import NOON
from tests.harness.sample_values import (
    ACME,
    USER,
    commit_connection,
    commit_readings,
    connection,
    reading,
    readings_commit_of,
    unpublished_changes,
    values_of,
)

LATER = NOON + timedelta(days=4)


async def received(
    store: Store, webhook_id: str = "msg_1", of: Connection | None = None, until: datetime = LATER
) -> ReceivedWebhook:
    """Return a webhook as the service does, with its stored id as read."""
    of = of or connection()
    read = await store.webhooks.read(of.id.user, [of.id.provider], webhook_id, [])
    stored = StoredWebhookId(of.generation, until)
    return ReceivedWebhook(of.id, webhook_id, stored, read.ids.get(of.id.provider))


async def is_known(store: Store, webhook_id: str, of: Connection | None = None, now: datetime = NOON) -> bool:
    of = of or connection()
    stored = (await store.webhooks.read(of.id.user, [of.id.provider], webhook_id, [])).ids.get(of.id.provider)
    return stored is not None and stored.detects(of, now)


async def test_an_id_is_known_until_it_expires(store: Store) -> None:
    assert not await is_known(store, "msg_1")
    await store.webhooks.add(await received(store))
    await store.webhooks.add(await received(store))
    assert await is_known(store, "msg_1")
    assert await is_known(store, "msg_1", now=LATER - timedelta(seconds=1))
    assert not await is_known(store, "msg_1", now=LATER)
    assert not await is_known(store, "msg_2")


@pytest.mark.parametrize("webhook_id", ["a" * 5_000, "a#b", "\xff\x00", "ä"])
async def test_an_id_may_be_any_header_value(store: Store, webhook_id: str) -> None:
    await store.webhooks.add(await received(store, webhook_id))
    assert await is_known(store, webhook_id)
    assert not await is_known(store, webhook_id + "x")


async def test_an_id_is_known_to_one_connect_of_one_connection(store: Store) -> None:
    await store.webhooks.add(await received(store))
    others = [
        connection(generation="second"),
        connection(id=ConnectionId(UserId("ada"), "other")),
        connection(id=ConnectionId(UserId("bob"), "acme")),
    ]
    for other in others:
        assert not await is_known(store, "msg_1", other)


async def test_one_read_returns_everything_that_a_webhook_needs(store: Store) -> None:
    await commit_connection(store)
    await store.commits.write(await readings_commit_of(store.readings, [reading(1)]))
    await store.webhooks.add(await received(store))
    start = segment_start(reading(1).measured_at)
    read = await store.webhooks.read(USER, ["acme", "other"], "msg_1", [start, start + timedelta(hours=6)])
    assert read.connections == {"acme": await store.connections.get(ACME)}
    assert read.ids == {"acme": StoredWebhookId(connection().generation, LATER)}
    assert read.series == await store.readings.read(USER, [start, start + timedelta(hours=6)])


async def test_the_id_is_stored_with_the_commit_or_not_at_all(store: Store) -> None:
    await commit_connection(store)
    commit = await readings_commit_of(store.readings, [reading(1)])
    outdated = await readings_commit_of(store.readings, [reading(2)])
    await store.commits.write(replace(commit, webhook=await received(store)))
    assert await is_known(store, "msg_1")
    with pytest.raises(StaleRead):
        await store.commits.write(replace(outdated, webhook=await received(store, "msg_2")))
    assert not await is_known(store, "msg_2")


async def test_of_equal_webhooks_one_is_committed_even_if_the_rest_is_as_read(store: Store) -> None:
    await commit_connection(store)
    webhook = await received(store)
    await store.commits.write(replace(await readings_commit_of(store.readings, [reading(1, 100)]), webhook=webhook))
    await store.commits.write(await readings_commit_of(store.readings, [reading(1, 105)]))
    repeated = replace(await readings_commit_of(store.readings, [reading(1, 100)]), webhook=webhook)
    with pytest.raises(Fenced):
        await store.commits.write(repeated)
    assert values_of(await commit_readings(store.readings)) == [105]


@pytest.mark.parametrize(("generation", "expires_at"), [("second", LATER), ("first", NOON)])
async def test_an_id_of_an_earlier_connect_or_an_expired_one_is_replaced_once(
    store: Store, generation: str, expires_at: datetime
) -> None:
    await commit_connection(store)
    await store.webhooks.add(await received(store, of=connection(generation=generation), until=expires_at))
    webhook = await received(store, until=LATER + timedelta(days=1))
    assert webhook.replaces == StoredWebhookId(generation, expires_at)
    await store.commits.write(replace(await readings_commit_of(store.readings, [reading(1)]), webhook=webhook))
    assert await is_known(store, "msg_1", now=LATER)
    with pytest.raises(Fenced):
        await store.commits.write(replace(await readings_commit_of(store.readings, [reading(2)]), webhook=webhook))


async def test_many_equal_webhooks_at_once_are_committed_once(store: Store) -> None:
    await commit_connection(store)
    committed: list[int] = []

    async def push(number: int, webhook: ReceivedWebhook) -> None:
        while True:
            try:
                commit = await readings_commit_of(store.readings, [reading(number)])
                await store.commits.write(replace(commit, webhook=webhook))
            except Fenced:
                return
            except (StaleRead, TransactionConflict):
                continue
            committed.append(number)
            return

    webhook = await received(store)
    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(push, number, webhook)
    assert len(committed) == 1
    assert len(await commit_readings(store.readings)) == 1
    assert len(await unpublished_changes(store)) == 2
