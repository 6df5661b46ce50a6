"""Export of all stored data of a user."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from inspect import getsource
from typing import Any

import anyio
import pytest

from bg_ingest.api.auth import Access
from bg_ingest.domain.access import Scope
from bg_ingest.domain.ids import UserId
from bg_ingest.simulator.faults import Late
from bg_ingest.store import keys
from tests.fakes.fake_provider import FakeProvider
from tests.harness.api import ApiHarness, open_api, reading
from tests.harness.connected_user import ADA, ConnectedUser, open_connected_user
from tests.harness.table_dump import read_all_items
from tests.harness.webhook_sender import envelope, record
from tests.unit.api.test_connections import begin, connect
from tests.unit.api.test_validation import assert_problem
from tests.unit.services.polling.test_gaps import poll_for

EXPORT = "/api/users/ada/export"


@pytest.fixture
async def api() -> AsyncIterator[ApiHarness]:
    async with open_api(acme=FakeProvider()) as opened:
        yield opened


def of_kind(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in lines if each["kind"] == kind]


async def test_it_has_everything_and_no_credential(api: ApiHarness) -> None:
    await connect(api)
    await api.add_readings(*(reading(number) for number in range(300)))
    await api.add_readings(reading(5, 200))
    await api.services.audit_log.flush()
    answer = await api.http.get(EXPORT)
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


async def test_quarantined_records_are_opened() -> None:
    async with open_connected_user() as ada:
        await _push_garbage(ada)
        answer = await ada.service.api.get(EXPORT)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        (kept,) = of_kind(lines, "quarantined")
        assert "garbage" in kept["record"]
        assert len(of_kind(lines, "reading")) == len(await ada.service.stored_readings(ADA.user))
        assert lines[-1]["kind"] == "end"


async def _push_garbage(ada: ConnectedUser) -> None:
    account = (await ada.connection()).provider_account
    answer = await ada.service.push(ADA.user, envelope(account, [record(ada.service.clock.now(), "garbage")]))
    assert answer.json()["quarantined"] == 1, answer.text


EXPORTED_KINDS = {
    "connection": "connection",
    "grant": "connection",
    "readings": "reading",
    "change": "event",
    "gap": "gap",
    "quarantine": "quarantined",
}
"""Stored rows of a user, and their form in an export."""

OMITTED_KINDS = {
    "head": "the newest reading and how connections stand, both of which the other rows say",
    "state": "it ends within minutes, and the connection that it is for is there as connecting",
}


@pytest.mark.slow
async def test_every_kind_of_row_under_a_user_is_in_it_or_left_out_for_a_reason() -> None:
    async with open_connected_user() as ada:
        await _push_garbage(ada)
        begins = ada.service.clock.now() + timedelta(hours=1)
        ada.service.simulator.add_fault(
            Late(start=begins, end=begins + timedelta(hours=1), shown_at=begins + timedelta(days=9))
        )
        await poll_for(ada, timedelta(hours=5))
        await ada.service.authorize(ADA.user, "SandboxUser1")
        rows = await read_all_items(ada.service.table)
        kinds = {key[1].partition("#")[0] for key in rows if key[0] == keys.user_pk(ADA.user)}
        assert kinds == EXPORTED_KINDS.keys() | OMITTED_KINDS.keys()
        assert len(kinds) == getsource(keys).count("return user_pk(")  # the test has them all
        answer = await ada.service.api.get(EXPORT)
        found = {json.loads(line)["kind"] for line in answer.text.splitlines()}
        assert found >= set(EXPORTED_KINDS.values())


async def test_keys_that_name_the_user_are_in_it_without_their_other_users(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    made = await api.services.api_keys.create("two", [Scope.READINGS_READ], users=[UserId("ada"), UserId("ben")])
    await api.services.api_keys.create("all", [Scope.READINGS_READ])
    await api.services.api_keys.create("ben's", [Scope.READINGS_READ], users=[UserId("ben")])
    answer = await api.http.get(EXPORT)
    (key,) = of_kind([json.loads(line) for line in answer.text.splitlines()], "api_key")
    assert (key["id"], key["name"], key["scopes"]) == (made.key.id, "two", ["readings:read"])
    assert "digest" not in key
    assert "ben" not in answer.text


async def test_an_unfinished_connect_is_exported(api: ApiHarness) -> None:
    await begin(api)
    lines = [json.loads(line) for line in (await api.http.get(EXPORT)).text.splitlines()]
    assert [each["kind"] for each in lines[:2]] == ["user", "connection"]
    assert lines[1]["state"] == "connecting"


async def test_whom_we_do_not_know_has_nothing(api: ApiHarness) -> None:
    assert_problem(await api.http.get(EXPORT), 404, "unknown")
    await connect(api)
    await api.http.delete("/api/users/ada")
    assert_problem(await api.http.get(EXPORT), 404, "unknown")


async def test_a_key_for_one_person_gives_that_persons_data_alone() -> None:
    async with open_api(Access.CLOSED, acme=FakeProvider()) as api:
        await api.add_readings(reading(1))
        made = await api.services.api_keys.create("test", [Scope.ADMIN], users=[UserId("ada")])
        await anyio.sleep(2)  # until a new key is known
        headers = {"Authorization": f"Bearer {made.text.reveal()}"}
        assert (await api.http.get(EXPORT, headers=headers)).status_code == 200
        assert (await api.http.get("/api/users/ben/export", headers=headers)).status_code == 404
        assert (await api.http.get("/api/audit?user=ada", headers=headers)).status_code == 403
