"""Request limits per credential."""

from collections.abc import AsyncIterator
from math import ceil

import anyio
import httpx
import pytest

from bg_ingest.api.auth import DEFAULT_LIMITS, Access
from bg_ingest.domain.access import Scope
from tests.harness.api import ApiHarness, open_api, reading


@pytest.fixture
async def closed() -> AsyncIterator[ApiHarness]:
    async with open_api(Access.CLOSED) as api:
        await api.add_readings(reading(-1))
        yield api


async def key(api: ApiHarness) -> str:
    made = await api.services.api_keys.create("mine", {Scope.READINGS_READ})
    await anyio.sleep(2)
    return made.text.reveal()


async def ask(api: ApiHarness, credential: str, path: str = "/api/bg/ada/latest") -> httpx.Response:
    return await api.http.get(path, headers={"Authorization": f"Bearer {credential}"})


@pytest.mark.slow
async def test_too_many_requests_are_answered_with_the_time_to_wait(closed: ApiHarness) -> None:
    often, seldom = await key(closed), await key(closed)
    statuses = [(await ask(closed, often)).status_code for _ in range(DEFAULT_LIMITS.burst)]
    assert set(statuses) == {200}
    before = closed.table.asked
    refused = await ask(closed, often)
    assert (refused.status_code, refused.json()["type"]) == (429, "too-many-requests")
    assert (await ask(closed, often, "/nowhere")).status_code == 429
    assert closed.table.asked == before
    assert (await ask(closed, seldom)).status_code == 200
    await anyio.sleep(int(refused.headers["retry-after"]))
    statuses = [(await ask(closed, often)).status_code for _ in range(ceil(DEFAULT_LIMITS.per_second))]
    assert set(statuses) == {200}


@pytest.mark.slow
async def test_wrong_credentials_use_up_nobodys_allowance(closed: ApiHarness) -> None:
    credential = await key(closed)
    wrong = credential[:-1] + ("A" if credential[-1] != "A" else "B")
    for _ in range(DEFAULT_LIMITS.burst + 10):
        assert (await ask(closed, wrong)).status_code == 401
    assert (await ask(closed, credential)).status_code == 200
