"""Everything we hold of a person, given to that person."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from inspect import getsource
from typing import Any

import anyio
import pytest

from bg_ingest.adapters.table import keys
from bg_ingest.api.auth import Access
from bg_ingest.domain.credentials import Scope
from bg_ingest.domain.ids import UserId
from bg_ingest.simulator.faults import Late
from tests.api.acme import Acme
from tests.api.desk import Desk, open_desk, reading
from tests.api.test_bad_requests import assert_problem
from tests.api.test_connections import begin, connect
from tests.home import ADA, Home, connected
from tests.sender import envelope, record
from tests.services.test_gaps import live_on
from tests.whole_table import everything

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


EXPORTED = {
    "connection": "connection",
    "grant": "connection",
    "readings": "reading",
    "change": "event",
    "gap": "gap",
    "quarantine": "set_aside",
}
"""The rows under a user, and what they are in an export."""

LEFT_OUT = {
    "head": "the newest reading and how connections stand, both of which the other rows say",
    "state": "it ends within minutes, and the connection that it is for is there as connecting",
}


async def test_every_kind_of_row_under_a_user_is_in_it_or_left_out_for_a_reason() -> None:
    async with connected() as home:
        await _push_garbage(home)
        begins = home.house.clock.now() + timedelta(hours=1)
        home.house.simulator.add_fault(
            Late(start=begins, end=begins + timedelta(hours=1), shown_at=begins + timedelta(days=9))
        )
        await live_on(home, timedelta(hours=5))
        await home.house.callback_of(ADA.user, "SandboxUser1")
        rows = await everything(home.house.table)
        kinds = {key[1].partition("#")[0] for key in rows if key[0] == keys.user_pk(ADA.user)}
        assert kinds == EXPORTED.keys() | LEFT_OUT.keys()
        assert len(kinds) == getsource(keys).count("return user_pk(")  # the test has them all
        answer = await home.house.api.get(EXPORT)
        found = {json.loads(line)["kind"] for line in answer.text.splitlines()}
        assert found >= set(EXPORTED.values())


async def test_keys_that_name_the_person_are_in_it_and_nobody_else_they_name(desk: Desk) -> None:
    await desk.keep(reading(-1))
    made = await desk.services.keyring.make("two", [Scope.READINGS_READ], users=[UserId("ada"), UserId("ben")])
    await desk.services.keyring.make("all", [Scope.READINGS_READ])
    await desk.services.keyring.make("ben's", [Scope.READINGS_READ], users=[UserId("ben")])
    answer = await desk.http.get(EXPORT)
    (key,) = of_kind([json.loads(line) for line in answer.text.splitlines()], "api_key")
    assert (key["id"], key["name"], key["scopes"]) == (made.key.id, "two", ["readings:read"])
    assert "digest" not in key
    assert "ben" not in answer.text


async def test_who_has_only_begun_to_connect_is_told_that(desk: Desk) -> None:
    await begin(desk)
    lines = [json.loads(line) for line in (await desk.http.get(EXPORT)).text.splitlines()]
    assert [each["kind"] for each in lines[:2]] == ["user", "connection"]
    assert lines[1]["state"] == "connecting"


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
