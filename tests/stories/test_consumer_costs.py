"""Read units of routes for consumers, computed at the store's port by DynamoDB's rules; docs/api.md states them."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.api.auth import Access
from bg_ingest.domain.ids import UserId
from tests.conftest import on
from tests.fakes.clock import SetClock
from tests.fakes.counting_table import CountingTable
from tests.harness.api import ApiHarness, reading
from tests.long.benchmarks.capacity import MeteredTable

anyio_backend = on("asyncio")

USERS = [UserId(f"user-{number:03}") for number in range(100)]
SPAN = {"from": "2026-02-16T12:00:00Z", "to": "2026-03-02T12:00:00Z"}


class MeteredApi:
    """API whose requests are measured in read units."""

    def __init__(self, api: ApiHarness, table: MeteredTable) -> None:
        self.api = api
        self._table = table

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
    metered.api.clock.advance(timedelta(minutes=10))  # until all readings are settled
    ranges = [await metered.reads("GET", f"/api/bg/{user}", params=SPAN) for user in users]
    checked = 0.5 * len(users)  # the head of each user, which a range reads too
    units = await metered.reads("POST", "/api/dataset", json={"users": users, **SPAN}, headers={"Accept": form})
    assert checked < units <= checked + sum(ranges)
