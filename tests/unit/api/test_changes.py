"""Changes of a user after a number, through the API."""

import json
from typing import Any

import msgspec
import pytest

from bg_ingest.domain.cloud_events import encode_cloud_event
from bg_ingest.domain.commits import Commit, ConnectionSummary, plan_erasure, with_summary
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.readings import Reading
from bg_ingest.store.changes import CHANGE_RETENTION
from tests.harness.api import ADA, ApiHarness, reading

CHANGES = "/api/bg/ada/changes"
LINES = {"Accept": "application/x-ndjson"}


async def add_one_by_one(api: ApiHarness, *readings: Reading) -> None:
    for one in readings:
        await api.add_readings(one)


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_pages_are_contiguous_and_equal_the_published_bytes(api: ApiHarness) -> None:
    await add_one_by_one(api, *(reading(number, 100 + number) for number in range(5)))
    first = (await api.http.get(CHANGES, params={"limit": "2"})).json()
    assert (first["user_id"], first["after"], first["last"], first["more"]) == ("ada", 2, 5, True)
    rest = await api.http.get(CHANGES, params={"after": "2"})
    assert [event["id"] for event in rest.json()["events"]] == ["ada/3", "ada/4", "ada/5"]
    assert (rest.json()["after"], rest.json()["more"]) == (5, False)
    for change in await api.store.changes.read(ADA, 3, 5):
        assert encode_cloud_event(change, "/bg-ingest") in rest.content


async def test_lines_end_with_the_cursor_and_respect_a_limit(api: ApiHarness) -> None:
    await add_one_by_one(api, *(reading(number) for number in range(4)))
    whole = lines_of((await api.http.get(CHANGES, headers=LINES)).text)
    assert [line.get("id") for line in whole] == ["ada/1", "ada/2", "ada/3", "ada/4", None]
    assert whole[-1] == {"kind": "end", "after": 4, "last": 4, "more": False}
    part = lines_of((await api.http.get(CHANGES, headers=LINES, params={"after": "1", "limit": "2"})).text)
    assert part[-1] == {"kind": "end", "after": 3, "last": 4, "more": True}


async def test_nothing_new_costs_one_read_and_one_poll_two(api: ApiHarness) -> None:
    await add_one_by_one(api, reading(0), reading(1))
    for after, reads in (("2", 1), ("1", 2)):
        before = api.table.reads
        assert (await api.http.get(CHANGES, params={"after": after})).status_code == 200
        assert api.table.reads - before == reads


async def test_a_tag_is_valid_until_the_next_change(api: ApiHarness) -> None:
    await api.add_readings(reading(0))
    tag = (await api.http.get(CHANGES)).headers["etag"]
    assert (await api.http.get(CHANGES, headers={"If-None-Match": tag})).status_code == 304
    await api.add_readings(reading(1))
    assert (await api.http.get(CHANGES, headers={"If-None-Match": tag})).status_code == 200


@pytest.mark.parametrize("headers", [{}, LINES])
async def test_an_expired_cursor_is_410_with_a_remedy_that_works(api: ApiHarness, headers: dict[str, str]) -> None:
    await add_one_by_one(api, reading(-3), reading(-2))
    api.clock.advance(CHANGE_RETENTION)  # the store has not deleted the expired changes yet
    await api.add_readings(reading(-1))
    expired = await api.http.get(CHANGES, params={"after": "1"}, headers=headers)
    assert expired.status_code == 410
    problem = expired.json()
    assert (problem["type"], problem["first_kept"], problem["last"]) == ("cursor-expired", 3, 3)
    window = {"from": "2026-03-01", "as_of_change": str(problem["last"]), "view": "full"}
    assert len((await api.http.get("/api/bg/ada", params=window)).json()) == 3
    following = await api.http.get(CHANGES, params={"after": str(problem["last"])})
    assert (following.status_code, following.json()["events"]) == (200, [])
    assert (await api.http.get(CHANGES, params={"after": "2"})).json()["after"] == 3


async def test_after_an_erasure_and_a_new_connect_an_old_cursor_is_410(api: ApiHarness) -> None:
    await add_one_by_one(api, reading(-3), reading(-2))
    await api.store.erasures.begin(plan_erasure(ADA, await api.store.readings.head(ADA), [], api.clock.now()))
    assert (await api.http.get(CHANGES)).status_code == 404
    await api.services.eraser.erase(ADA)
    erased = await api.store.readings.head(ADA)
    assert erased is not None
    connected = with_summary(erased, "acme", ConnectionSummary(ConnectionState.ACTIVE, 300, 0, 300))
    await api.store.commits.write(Commit(before=erased, head=msgspec.structs.replace(connected, erased=False)))
    await api.add_readings(reading(-1))
    for after in range(erased.last_change):
        refused = await api.http.get(CHANGES, params={"after": str(after)})
        assert refused.status_code == 410, refused.text
        problem = refused.json()
        assert (problem["type"], problem["first_kept"]) == ("cursor-expired", erased.last_change + 1)
    following = (await api.http.get(CHANGES, params={"after": str(erased.last_change)})).json()
    assert [event["id"] for event in following["events"]] == [f"ada/{erased.last_change + 1}"]


@pytest.mark.parametrize(
    ("query", "slug"),
    [
        ({"after": "-1"}, "invalid-after"),
        ({"after": "3"}, "invalid-after"),
        ({"after": "1.0"}, "invalid-after"),
        ({"after": "٣"}, "invalid-after"),
        ({"after": "9" * 13}, "invalid-after"),
        ({"limit": "0"}, "invalid-limit"),
        ({"limit": "1001"}, "invalid-limit"),
        ({"from": "1"}, "unknown-parameter"),
    ],
)
async def test_parameters_outside_their_limits_are_refused(api: ApiHarness, query: dict[str, str], slug: str) -> None:
    await add_one_by_one(api, reading(0), reading(1))
    refused = await api.http.get(CHANGES, params=query)
    assert (refused.status_code, refused.json()["type"]) == (400, slug)


@pytest.mark.slow
async def test_an_answer_is_short_rather_than_large_but_never_empty(api: ApiHarness) -> None:
    for month in range(16):
        await api.add_readings(*(reading(-month * 9_000 - number, trend="flat") for number in range(288)))
    collected: list[str] = []
    page: dict[str, Any] = {"after": 0, "more": True}
    answers = 0
    while page["more"]:
        answers += 1
        answer = await api.http.get(CHANGES, params={"after": str(page["after"]), "limit": "1000"})
        assert len(answer.content) < 2_200_000
        page = answer.json()
        assert page["events"]
        collected += [event["id"] for event in page["events"]]
    assert answers > 1
    assert collected == [f"ada/{number}" for number in range(1, page["last"] + 1)]
