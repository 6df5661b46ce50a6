"""Equal ETags only for equal answers."""

from datetime import timedelta

import pytest

from tests.harness.api import ApiHarness, reading

LATEST, FULL = "/api/bg/ada/latest", "/api/bg/ada/latest?view=full"
DAY = "/api/bg/ada?from=2026-03-01&to=2026-03-03"
SINCE = "/api/bg/ada?from=2026-03-01"


async def get_etag(api: ApiHarness, path: str, **headers: str) -> str:
    answer = await api.http.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["etag"]


async def is_unchanged(api: ApiHarness, path: str, tag: str) -> bool:
    answer = await api.http.get(path, headers={"If-None-Match": tag})
    assert answer.status_code in (200, 304)
    assert (answer.content == b"") is (answer.status_code == 304)
    return answer.status_code == 304


@pytest.mark.parametrize("path", [LATEST, FULL, DAY, SINCE, "/api/bg/ada"])
async def test_an_unchanged_answer_is_304_and_a_changed_one_is_sent(api: ApiHarness, path: str) -> None:
    await api.add_readings(reading(-2))
    api.clock.advance(timedelta(minutes=1))  # beyond the slot of a poll at noon
    tag = await get_etag(api, path)
    api.clock.advance(timedelta(seconds=20))
    assert await is_unchanged(api, path, tag)
    await api.add_readings(reading(-1))
    assert not await is_unchanged(api, path, tag)


async def test_a_304_has_the_headers_of_a_200_and_no_body(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    for path in (LATEST, DAY, "/api/bg/ada"):
        whole = await api.http.get(path)
        kept = await api.http.get(path, headers={"If-None-Match": whole.headers["etag"]})
        assert kept.status_code == 304
        for name in ("etag", "cache-control", "vary"):
            assert kept.headers.get(name) == whole.headers.get(name)
        assert "content-type" not in kept.headers


async def test_a_304_reads_no_readings(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    tag = await get_etag(api, DAY)
    reads = api.table.reads
    assert await is_unchanged(api, DAY, tag)
    assert api.table.reads == reads + 1


@pytest.mark.parametrize("form", ["{}", '"other", {}', '{} , W/"more"', "*", " * "])
async def test_if_none_match_is_a_list_and_compared_weakly(api: ApiHarness, form: str) -> None:
    await api.add_readings(reading(-1))
    tag = await get_etag(api, LATEST)
    assert tag.startswith('W/"')
    assert await is_unchanged(api, LATEST, form.format(tag))
    assert await is_unchanged(api, LATEST, form.format(tag.removeprefix("W/")))
    assert not await is_unchanged(api, LATEST, 'W/"other"')


async def test_each_question_and_format_has_its_own_tag(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    paths = [LATEST, FULL, DAY, SINCE, DAY + "&view=full", "/api/bg/ada"]
    tags = [await get_etag(api, path) for path in paths]
    tags += [await get_etag(api, DAY, Accept=each) for each in ("text/csv", "application/x-ndjson")]
    assert len(set(tags)) == len(tags)


async def test_growing_older_alone_changes_nothing_until_the_state_does(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    api.clock.advance(timedelta(minutes=1))
    tag = await get_etag(api, FULL)
    api.clock.advance(timedelta(seconds=30))
    assert await is_unchanged(api, FULL, tag)
    api.clock.advance(timedelta(hours=1))
    late = await api.http.get(FULL, headers={"If-None-Match": tag})
    assert late.json()["state"] == "late"


async def test_the_last_day_does_not_keep_a_reading_that_left_it(api: ApiHarness) -> None:
    await api.add_readings(reading(-288), reading(-1))
    api.clock.advance(timedelta(seconds=-1))
    tag = await get_etag(api, "/api/bg/ada")
    api.clock.advance(timedelta(seconds=2))
    assert not await is_unchanged(api, "/api/bg/ada", tag)


async def test_a_reading_dated_ahead_appears_when_its_time_has_come(api: ApiHarness) -> None:
    await api.add_readings(reading(-1), reading(1))
    api.clock.advance(timedelta(minutes=4))
    tag = await get_etag(api, SINCE)
    api.clock.advance(timedelta(minutes=2))
    answer = await api.http.get(SINCE, headers={"If-None-Match": tag})
    assert len(answer.json()) == 2


async def test_a_tag_made_while_the_store_may_lag_does_not_outlive_the_lag(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    tag = await get_etag(api, DAY)
    api.clock.advance(timedelta(seconds=1))
    assert await is_unchanged(api, DAY, tag)
    api.clock.advance(timedelta(seconds=10))
    assert not await is_unchanged(api, DAY, tag)
