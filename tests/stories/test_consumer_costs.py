"""Read units of routes for consumers, computed at the store's port by DynamoDB's rules; docs/api.md states them."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.api.auth import Access
from bg_ingest.domain.ids import UserId
from bg_ingest.store import keys
from tests.conftest import on
from tests.fakes.clock import SetClock
from tests.fakes.counting_table import CountingTable
from tests.harness.api import ADA, ApiHarness, reading
from tests.harness.sse import open_stream
from tests.long.benchmarks.capacity import READ_BLOCK, MeteredTable, Units, item_size
from tests.long.benchmarks.history import Person, series

anyio_backend = on("asyncio")

USERS = [UserId(f"user-{number:03}") for number in range(100)]
SPAN = {"from": "2026-02-16T12:00:00Z", "to": "2026-03-02T12:00:00Z"}


class MeteredApi:
    """API whose requests are measured in read units."""

    def __init__(self, api: ApiHarness, table: MeteredTable) -> None:
        self.api = api
        self._table = table

    @property
    def used(self) -> Units:
        return self._table.used

    async def reads(self, method: str, path: str, **request: Any) -> float:
        """Return the read units of a request that succeeds."""
        before = self._table.used.reads
        answer = await self.api.http.request(method, path, **request)
        assert answer.status_code == 200, answer.text
        return self._table.used.reads - before


@pytest.fixture
async def metered() -> AsyncIterator[MeteredApi]:
    clock = SetClock()
    async with open_table(None, clock) as plain:
        table = MeteredTable(plain)
        api = ApiHarness(CountingTable(table), clock, {})
        await api.services.authenticator.is_open()  # cached for a while
        async with api.open(Access.OPEN):
            yield MeteredApi(api, table)


async def add_to_all(metered: MeteredApi) -> None:
    for user in USERS:
        await metered.api.add_readings(reading(-1), user=user)


async def add_two_weeks(metered: MeteredApi, user: UserId) -> None:
    await metered.api.add_readings(*(reading(number, 60 + number % 97) for number in range(-14 * 288, 0)), user=user)


async def test_changes_cost_the_head_and_a_unit_per_4_kb_of_events(metered: MeteredApi) -> None:
    for number in range(-100, 0):
        await metered.api.add_readings(reading(number))
    for after, units in ((100, 1), (99, 2), (0, 7)):
        assert await metered.reads("GET", "/api/bg/ada/changes", params={"after": after}) == units


@asynccontextmanager
async def run_hub(metered: MeteredApi) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        await group.start(metered.api.services.event_hub)
        yield
        group.cancel_scope.cancel()


async def add_backfill(metered: MeteredApi, days: int) -> int:
    """Commit a day at a time, as a backfill does. Return the units of 4 KB that the events take."""
    history = list(series(Person(ADA, days)))
    for start in range(0, len(history), 288):
        await metered.api.add_readings(*history[start : start + 288])
    changes = [keys.change(ADA, number) for number in range(1, days + 1)]
    events = await metered.api.table.batch_get(changes)
    return math.ceil(sum(item_size(key, events[key]) for key in changes) / READ_BLOCK)


@pytest.mark.slow
async def test_changes_of_a_backfill_cost_the_head_and_a_unit_per_4_kb_of_events(metered: MeteredApi) -> None:
    units = await add_backfill(metered, days=30)
    assert units in range(6, 14), "27 for 90 commits are 9 for 30; the size depends on the readings"
    lines = {"Accept": "application/x-ndjson"}
    assert await metered.reads("GET", "/api/bg/ada/changes", params={"after": 0}, headers=lines) == 1 + units
    assert await metered.reads("POST", "/api/changes", json={"after": {ADA: 0}}) == 0.5 + units
    before = metered.used.reads
    async with run_hub(metered), open_stream(metered.api.app, "/api/bg/ada/changes", query={"after": "0"}) as stream:
        await stream.wait(30)
    assert metered.used.reads - before <= 1 + 3 * units, "each read of a stream is rounded up"


async def test_opening_a_stream_costs_a_unit_and_one_of_many_users_half_a_unit_per_user(metered: MeteredApi) -> None:
    await add_to_all(metered)
    async with run_hub(metered):
        await anyio.sleep(1)
        for path, body, units in (
            (f"/api/bg/{USERS[0]}/changes", None, 1),
            ("/api/changes", {"after": dict.fromkeys(USERS)}, 50),
            ("/api/changes", {"after": dict.fromkeys(USERS, 0)}, 50 + 100),
        ):
            before = metered.used.reads
            async with open_stream(metered.api.app, path, body=body) as stream:
                await stream.wait(100 if body else 1)
            assert metered.used.reads - before == units, body


async def test_a_stream_costs_nothing_per_commit_of_its_replica(metered: MeteredApi) -> None:
    await metered.api.add_readings(reading(0))
    async with run_hub(metered), open_stream(metered.api.app, "/api/bg/ada/changes") as stream:
        await stream.wait(1)
        await metered.api.add_readings(reading(1))
        changes = await metered.api.store.changes.read(ADA, 2, 2)
        before = metered.used.reads
        metered.api.services.observer.committed(changes)
        await stream.wait(2)
        assert metered.used.reads - before == 0


async def test_audit_costs_a_write_per_credential_user_route_and_hour(metered: MeteredApi) -> None:
    await add_to_all(metered)
    log = metered.api.services.audit_log
    await metered.reads("GET", f"/api/bg/{USERS[0]}/latest", params={"view": "full"})
    await log.flush()  # stores the key of the audit hashes too
    before = metered.used.writes
    for _ in range(3):
        await metered.reads("GET", f"/api/bg/{USERS[0]}/latest")
        await metered.reads("GET", f"/api/bg/{USERS[1]}/latest")
        await metered.reads("GET", "/api/latest", params={"users": ",".join(USERS)})
        await log.flush()
    assert metered.used.writes - before == 1 + len(USERS), "of the first user, latest is on record already"


@pytest.mark.parametrize(("after", "units"), [(1, 50), (None, 50), (0, 50 + 100)])
async def test_changes_of_many_cost_half_a_unit_per_user_and_a_unit_per_4_kb_of_events(
    metered: MeteredApi, after: int | None, units: float
) -> None:
    await add_to_all(metered)
    vector = dict.fromkeys(USERS, after)
    assert await metered.reads("POST", "/api/changes", json={"after": vector}) == units


async def test_latest_costs_a_unit_and_latest_of_many_half_a_unit_per_user(metered: MeteredApi) -> None:
    await add_to_all(metered)
    assert await metered.reads("GET", f"/api/bg/{USERS[0]}/latest") == 1
    assert await metered.reads("GET", "/api/latest", params={"users": ",".join(USERS)}) == 50


async def test_statistics_cost_the_range_that_they_rest_on(metered: MeteredApi) -> None:
    await add_two_weeks(metered, UserId("ada"))
    units = await metered.reads("GET", "/api/bg/ada", params=SPAN)
    assert 1 <= units <= 4
    for route in ("statistics", "statistics/daily", "profile", "series"):
        assert await metered.reads("GET", f"/api/bg/ada/{route}", params=SPAN) == units


@pytest.mark.parametrize("form", ["application/x-ndjson", "text/csv", "application/json"])
async def test_a_dataset_costs_half_a_unit_per_user_and_the_ranges(metered: MeteredApi, form: str) -> None:
    users = USERS[:3]
    for user in users:
        await add_two_weeks(metered, user)
    metered.api.clock.advance(timedelta(minutes=10))  # until the last second with a change is final
    ranges = [await metered.reads("GET", f"/api/bg/{user}", params=SPAN) for user in users]
    checked = 0.5 * len(users)  # the head of each user, which a range reads too
    units = await metered.reads("POST", "/api/dataset", json={"users": users, **SPAN}, headers={"Accept": form})
    assert checked < units <= checked + sum(ranges)
