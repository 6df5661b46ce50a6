"""How often a credential may come."""

from collections.abc import AsyncIterator
from math import ceil

import anyio
import httpx
import pytest

from bg_ingest.api.auth import USUAL_LIMITS, Access
from bg_ingest.domain.credentials import Scope
from tests.api.desk import Desk, open_desk, reading


@pytest.fixture
async def closed() -> AsyncIterator[Desk]:
    async with open_desk(Access.CLOSED) as desk:
        await desk.keep(reading(-1))
        yield desk


async def key(desk: Desk) -> str:
    made = await desk.services.keyring.make("mine", {Scope.READINGS_READ})
    await anyio.sleep(2)
    return made.text.reveal()


async def ask(desk: Desk, credential: str, path: str = "/api/bg/ada/latest") -> httpx.Response:
    return await desk.http.get(path, headers={"Authorization": f"Bearer {credential}"})


async def test_who_comes_too_often_is_told_how_long_to_wait(closed: Desk) -> None:
    often, seldom = await key(closed), await key(closed)
    statuses = [(await ask(closed, often)).status_code for _ in range(USUAL_LIMITS.at_once)]
    assert set(statuses) == {200}
    before = closed.table.asked
    refused = await ask(closed, often)
    assert (refused.status_code, refused.json()["type"]) == (429, "too-many-requests")
    assert (await ask(closed, often, "/nowhere")).status_code == 429
    assert closed.table.asked == before
    assert (await ask(closed, seldom)).status_code == 200
    await anyio.sleep(int(refused.headers["retry-after"]))
    statuses = [(await ask(closed, often)).status_code for _ in range(ceil(USUAL_LIMITS.per_second))]
    assert set(statuses) == {200}


async def test_wrong_credentials_use_up_nobodys_allowance(closed: Desk) -> None:
    credential = await key(closed)
    wrong = credential[:-1] + ("A" if credential[-1] != "A" else "B")
    for _ in range(USUAL_LIMITS.at_once + 10):
        assert (await ask(closed, wrong)).status_code == 401
    assert (await ask(closed, credential)).status_code == 200
