"""Tables rebuilt from a snapshot and the changes after it equal the range, whatever happens in between."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any

import anyio
import msgspec
import pytest

from bg_ingest.api.auth import Access
from bg_ingest.domain.access import Scope
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Reading
from bg_ingest.store.changes import CHANGE_RETENTION
from tests.conftest import on
from tests.harness.api import DEVICE, ApiHarness, open_api, reading

anyio_backend = on("asyncio")

SINCE = {"from": "2026-02-20", "view": "full", "devices": "all"}
DEVICES = (DEVICE, msgspec.structs.replace(DEVICE, display="receiver"))
Table = dict[tuple[str, str, str], dict[str, Any]]


def draw_batch(random: Random) -> Iterator[Reading]:
    """Yield new and revised readings of two devices."""
    for _ in range(random.randint(1, 4)):
        drawn = reading(-random.randint(1, 400), random.randint(60, 250))
        yield msgspec.structs.replace(drawn, device=random.choice(DEVICES))


async def get(api: ApiHarness, path: str, **query: Any) -> Any:
    answer = await api.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def key_of(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["sensor"], row["device"], row["measured_at"]


async def read_table(api: ApiHarness, **query: Any) -> Table:
    return {key_of(row): row for row in await get(api, "/api/bg/ada", **SINCE, **query)}


async def apply_changes(api: ApiHarness, table: Table, after: int) -> int:
    """Apply the events after a number, and return the last one's number."""
    while True:
        page = await get(api, "/api/bg/ada/changes", after=after, limit=7)
        for event in page["events"]:
            for row in event["data"].get("readings", []):
                row.pop("previous_glucose_mg_dl", None)  # of revisions
                table[key_of(row)] = row
        after = page["after"]
        if not page["more"]:
            return int(after)


@pytest.mark.slow
async def test_a_snapshot_and_the_changes_after_it_are_the_range_at_50_random_numbers() -> None:
    random = Random(11)
    async with open_api() as api:
        for _ in range(40):
            await api.add_readings(*draw_batch(random))
        last = (await get(api, "/api/bg/ada/changes", limit=1))["last"]
        for _ in range(50):
            number = random.randint(0, last)
            table = await read_table(api, as_of_change=number)
            await api.add_readings(*draw_batch(random))
            last = await apply_changes(api, table, number)
            assert table == await read_table(api)
    assert last > 80


async def test_the_remedy_of_an_expired_cursor_ends_equal_to_the_range() -> None:
    random = Random(12)
    async with open_api() as api:
        for days in (0, 20, 41, 1):
            api.clock.advance(timedelta(days=days))
            await api.add_readings(*draw_batch(random))
        expired = await api.http.get("/api/bg/ada/changes", params={"after": 0})
        assert expired.status_code == 410
        last = expired.json()["last"]
        table = await read_table(api, as_of_change=last)
        await api.add_readings(*draw_batch(random))
        assert await apply_changes(api, table, last) == last + 1
        assert table == await read_table(api)


@asynccontextmanager
async def open_many() -> AsyncIterator[tuple[ApiHarness, dict[str, str]]]:
    """Open the API with users of every kind, and yield it with the header of a key for all of them but Max."""
    async with open_api(Access.CLOSED) as api:
        for user, batches in (("eva", 3), ("lea", 2)):
            for number in range(batches):
                await api.add_readings(reading(-number), user=UserId(user))
        api.clock.advance(CHANGE_RETENTION)
        for user in ("ada", "ben", "eva", "max"):
            await api.add_readings(reading(-7), reading(-8), user=UserId(user))
        await api.services.eraser.erase(UserId("lea"))
        users = [UserId(user) for user in ("ada", "ben", "eva", "lea", "new", "zoe")]
        made = await api.services.api_keys.create("test", [Scope.READINGS_READ], users=users)
        await anyio.sleep(3)  # until a new key is known
        yield api, {"Authorization": f"Bearer {made.text.reveal()}"}


async def test_a_vector_of_users_of_every_kind_has_the_line_of_each() -> None:
    async with open_many() as (api, headers):
        await api.add_connection(user=UserId("new"))
        after = {"ada": 0, "ben": None, "eva": 1, "lea": 1, "max": 0, "new": 0, "zoe": 0}
        answer = await api.http.post("/api/changes", json={"after": after}, headers=headers)
        large = await api.http.post("/api/changes", json={"after": after, "x": "y" * 65_536}, headers=headers)
    assert (large.status_code, large.json()["type"]) == (413, "too-large")
    *lines, end = map(json.loads, answer.text.splitlines())
    kinds = {line.get("user_id") or line["event"]["subject"]: line for line in lines}
    assert {user: line["kind"] for user, line in kinds.items()} == {
        "ada": "event",
        "ben": "snapshot",
        "eva": "expired",
        "lea": "unknown",
        "max": "unknown",
        "zoe": "unknown",
    }
    assert kinds["eva"] == {"kind": "expired", "user_id": "eva", "first_kept": 4, "last": 4}
    assert end == {"kind": "end", "after": {"ada": 1, "ben": 1}, "more": False}


@pytest.mark.slow
async def test_a_client_that_merges_the_cursors_receives_every_event_once_over_100_calls() -> None:
    random, users = Random(13), [UserId(name) for name in ("ada", "ben", "eva", "lea")]
    received: dict[str, list[int]] = {user: [] for user in users}
    vector, end = dict.fromkeys(users, 0), {"more": True}
    async with open_api() as api:
        for user in users:
            await api.add_connection(user=user)
        for call in range(100):
            for _ in range(random.randint(0, 3) if call < 90 else 0):
                await api.add_readings(*draw_batch(random), user=random.choice(users))
            limit = random.randint(1, 4) if call < 90 else 10_000
            answer = await api.http.post("/api/changes", json={"after": vector, "limit": limit})
            *lines, end = map(json.loads, answer.text.splitlines())
            assert len(lines) <= limit
            for line in lines:
                user, _, number = line["event"]["id"].partition("/")
                received[user].append(int(number))
            vector |= end["after"]
        heads = {user: await get(api, f"/api/bg/{user}/changes", limit=1) for user in users}
    assert not end["more"]
    assert sum(map(len, received.values())) > 100
    assert received == {user: list(range(1, head["last"] + 1)) for user, head in heads.items()}


async def test_latest_of_100_users_equals_100_single_answers() -> None:
    random, users = Random(14), [UserId(f"user-{number}") for number in range(100)]
    async with open_api() as api:
        for user in users[:90]:
            await api.add_readings(
                *(reading(-random.randint(1, 40), random.randint(60, 250)) for _ in range(2)), user=user
            )
        for user in users[90:95]:
            await api.add_connection(user=user)
        asked = random.sample(users, 100)
        before = api.table.reads
        many = await get(api, "/api/latest", users=",".join(asked), view="full")
        assert api.table.reads - before == 1
        single = {user: await api.http.get(f"/api/bg/{user}/latest", params={"view": "full"}) for user in asked}
    found = [{"user_id": user, **answer.json()} for user, answer in single.items() if answer.status_code == 200]
    assert many["readings"] == found
    assert many["missing"] == [user for user, answer in single.items() if answer.status_code == 404]
    assert len(found) == 90
