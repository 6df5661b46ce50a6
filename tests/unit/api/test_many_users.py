"""Changes after a vector of cursors, and the newest readings of many users, through the API."""

import json
from typing import Any

import anyio
import pytest

from bg_ingest.api.auth import Access
from bg_ingest.domain.access import Scope
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Reading
from tests.harness.api import ApiHarness, open_api, reading


async def add_one_by_one(api: ApiHarness, *readings: Reading) -> None:
    for one in readings:
        await api.add_readings(one)


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_a_vector_of_cursors_has_a_line_for_each_case(api: ApiHarness) -> None:
    await add_one_by_one(api, *(reading(number) for number in range(-5, 0)))
    vector = {"after": {"ada": 3, "zoe": 1}}
    lines = lines_of((await api.http.post("/api/changes", json=vector)).text)
    assert [line["event"]["id"] for line in lines if line["kind"] == "event"] == ["ada/4", "ada/5"]
    assert {"kind": "unknown", "user_id": "zoe"} in lines
    assert lines[-1] == {"kind": "end", "after": {"ada": 5}, "more": False}
    (snapshot, end) = lines_of((await api.http.post("/api/changes", json={"after": {"ada": None}})).text)
    assert (snapshot["kind"], snapshot["user_id"], snapshot["change"]) == ("snapshot", "ada", 5)
    assert (snapshot["latest"]["change"], snapshot["latest"]["state"]) == (5, "live")
    assert end["after"] == {"ada": 5}
    (expired, _) = lines_of((await api.http.post("/api/changes", json={"after": {"ada": 6}})).text)
    assert expired == {"kind": "expired", "user_id": "ada", "first_kept": 6, "last": 5}


async def test_a_client_that_merges_the_cursors_receives_each_event_once(api: ApiHarness) -> None:
    await add_one_by_one(api, *(reading(number) for number in range(-9, 0)))
    vector, received = {"ada": 0}, []
    for _ in range(9):
        lines = lines_of((await api.http.post("/api/changes", json={"after": vector, "limit": 4})).text)
        received += [line["event"]["id"] for line in lines if line["kind"] == "event"]
        vector |= lines[-1]["after"]
        if not lines[-1]["more"]:
            break
    assert received == [f"ada/{number}" for number in range(1, 10)]


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({"after": {}}, "invalid-body"),
        ({"after": {"ada": -1}}, "invalid-body"),
        ({"after": {"ada": "1"}}, "invalid-body"),
        ({"after": {"a b": 1}}, "invalid-user-id"),
        ({"after": {"ada": 1}, "limit": 0}, "invalid-body"),
        ({"after": {f"u{number}": 0 for number in range(1_001)}}, "invalid-body"),
    ],
)
async def test_a_bad_vector_is_refused(api: ApiHarness, body: dict[str, Any], slug: str) -> None:
    refused = await api.http.post("/api/changes", json=body)
    assert (refused.status_code, refused.json()["type"]) == (400, slug)


async def test_latest_of_many_equals_the_single_answers(api: ApiHarness) -> None:
    await add_one_by_one(api, reading(-2, 120), reading(-1, 130))
    single = (await api.http.get("/api/bg/ada/latest", params={"view": "full"})).json()
    before = api.table.reads
    many = (await api.http.get("/api/latest", params={"users": "zoe,ada", "view": "full"})).json()
    assert api.table.reads - before == 1
    assert many == {"readings": [{"user_id": "ada", **single}], "missing": ["zoe"]}
    basic = await api.http.get("/api/latest", params={"users": "ada"})
    assert basic.json()["readings"] == [{"user_id": "ada", "timestamp": single["timestamp"], "glucose_mg_dl": 130}]
    again = await api.http.get("/api/latest", params={"users": "ada"}, headers={"If-None-Match": basic.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("users", "slug"),
    [
        ("", "invalid-user-id"),
        ("ada,", "invalid-user-id"),
        ("ada,ada", "invalid-users"),
        (",".join(f"u{number}" for number in range(101)), "invalid-users"),
    ],
)
async def test_a_bad_list_of_users_is_refused(api: ApiHarness, users: str, slug: str) -> None:
    refused = await api.http.get("/api/latest", params={"users": users})
    assert (refused.status_code, refused.json()["type"]) == (400, slug)


async def test_users_outside_the_credential_are_answered_as_unknown_and_without_a_read() -> None:
    async with open_api(Access.CLOSED) as api:
        await api.add_readings(reading(-1))
        made = await api.services.api_keys.create("ben", [Scope.READINGS_READ], users=[UserId("ben")])
        await anyio.sleep(2)  # until a new key is known
        headers = {"Authorization": f"Bearer {made.text.reveal()}"}
        await api.http.get("/api/latest", params={"users": "ada"}, headers=headers)
        before = api.table.reads
        many = await api.http.get("/api/latest", params={"users": "ada"}, headers=headers)
        assert many.json() == {"readings": [], "missing": ["ada"]}
        lines = lines_of((await api.http.post("/api/changes", json={"after": {"ada": 0}}, headers=headers)).text)
        assert lines == [{"kind": "unknown", "user_id": "ada"}, {"kind": "end", "after": {}, "more": False}]
        assert api.table.reads == before
