"""Everything we hold of a person, given to that person."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from bg_ingest.api.auth import Access
from bg_ingest.domain.credentials import Scope
from bg_ingest.domain.ids import UserId
from tests.api.acme import Acme
from tests.api.desk import Desk, open_desk, reading
from tests.api.test_bad_requests import assert_problem
from tests.api.test_connections import connect
from tests.home import ADA, Home, connected
from tests.sender import envelope, record

EXPORT = "/api/users/ada/export"


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk(acme=Acme()) as opened:
        yield opened


def of_kind(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in lines if each["kind"] == kind]


async def test_it_has_everything_and_no_credential(desk: Desk) -> None:
    await connect(desk)
    await desk.keep(*(reading(number) for number in range(300)))
    await desk.keep(reading(5, 200))
    await desk.services.auditing.write()
    answer = await desk.http.get(EXPORT)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["cache-control"] == "no-store"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1] == {"kind": "end", "rows": len(lines) - 1}
    assert len(of_kind(lines, "reading")) == 300
    (revised,) = [each for each in of_kind(lines, "reading") if each["earlier"]]
    assert (revised["reading"]["glucose_mg_dl"], revised["earlier"][0]["glucose_mg_dl"]) == (200, 110)
    events = of_kind(lines, "event")
    assert [each["event"]["id"] for each in events] == [f"ada/{number}" for number in range(len(events), 0, -1)]
    (connection,) = of_kind(lines, "connection")
    assert (connection["state"], connection["grant"]["version"]) == ("active", 1)
    assert len(of_kind(lines, "audit")) >= 2
    assert "sealed" not in answer.text


async def test_records_that_were_set_aside_are_opened() -> None:
    async with connected() as home:
        await _push_garbage(home)
        answer = await home.house.api.get(EXPORT)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        (kept,) = of_kind(lines, "set_aside")
        assert "garbage" in kept["record"]
        assert len(of_kind(lines, "reading")) == len(await home.house.stored(ADA.user))
        assert lines[-1]["kind"] == "end"


async def _push_garbage(home: Home) -> None:
    account = (await home.connection()).provider_account
    answer = await home.house.push(ADA.user, envelope(account, [record(home.house.clock.now(), "garbage")]))
    assert answer.json()["quarantined"] == 1, answer.text


async def test_whom_we_do_not_know_has_nothing(desk: Desk) -> None:
    assert_problem(await desk.http.get(EXPORT), 404, "unknown")
    await connect(desk)
    await desk.http.delete("/api/users/ada")
    assert_problem(await desk.http.get(EXPORT), 404, "unknown")


async def test_a_key_for_one_person_gives_that_persons_data_alone() -> None:
    async with open_desk(Access.CLOSED, acme=Acme()) as desk:
        await desk.keep(reading(1))
        made = await desk.services.keyring.make("test", [Scope.ADMIN], users=[UserId("ada")])
        await anyio.sleep(2)  # until a new key is known
        headers = {"Authorization": f"Bearer {made.text.reveal()}"}
        assert (await desk.http.get(EXPORT, headers=headers)).status_code == 200
        assert (await desk.http.get("/api/users/ben/export", headers=headers)).status_code == 404
        assert (await desk.http.get("/api/audit?user=ada", headers=headers)).status_code == 403
