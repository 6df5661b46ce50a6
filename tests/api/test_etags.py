"""The same tag only where the same answer would be given."""

from datetime import timedelta

import pytest

from tests.api.desk import Desk, reading

LATEST, FULL = "/api/bg/ada/latest", "/api/bg/ada/latest?view=full"
DAY = "/api/bg/ada?from=2026-03-01&to=2026-03-03"
SINCE = "/api/bg/ada?from=2026-03-01"


async def tag_of(desk: Desk, path: str, **headers: str) -> str:
    answer = await desk.http.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["etag"]


async def still_holds(desk: Desk, path: str, tag: str) -> bool:
    answer = await desk.http.get(path, headers={"If-None-Match": tag})
    assert answer.status_code in (200, 304)
    assert (answer.content == b"") is (answer.status_code == 304)
    return answer.status_code == 304


@pytest.mark.parametrize("path", [LATEST, FULL, DAY, SINCE, "/api/bg/ada"])
async def test_what_has_not_changed_is_304_and_what_has_is_told(desk: Desk, path: str) -> None:
    await desk.keep(reading(-2))
    desk.clock.advance(timedelta(minutes=1))  # beyond the slot of a look at noon
    tag = await tag_of(desk, path)
    desk.clock.advance(timedelta(seconds=20))
    assert await still_holds(desk, path, tag)
    await desk.keep(reading(-1))
    assert not await still_holds(desk, path, tag)


async def test_a_304_has_the_headers_of_a_200_and_no_body(desk: Desk) -> None:
    await desk.keep(reading(-1))
    for path in (LATEST, DAY, "/api/bg/ada"):
        whole = await desk.http.get(path)
        kept = await desk.http.get(path, headers={"If-None-Match": whole.headers["etag"]})
        assert kept.status_code == 304
        for name in ("etag", "cache-control", "vary"):
            assert kept.headers.get(name) == whole.headers.get(name)
        assert "content-type" not in kept.headers


async def test_a_304_reads_no_readings(desk: Desk) -> None:
    await desk.keep(reading(-1))
    tag = await tag_of(desk, DAY)
    reads = desk.table.reads
    assert await still_holds(desk, DAY, tag)
    assert desk.table.reads == reads + 1


@pytest.mark.parametrize("form", ["{}", '"other", {}', '{} , W/"more"', "*", " * "])
async def test_if_none_match_is_a_list_and_compared_weakly(desk: Desk, form: str) -> None:
    await desk.keep(reading(-1))
    tag = await tag_of(desk, LATEST)
    assert tag.startswith('W/"')
    assert await still_holds(desk, LATEST, form.format(tag))
    assert await still_holds(desk, LATEST, form.format(tag.removeprefix("W/")))
    assert not await still_holds(desk, LATEST, 'W/"other"')


async def test_each_question_and_format_has_its_own_tag(desk: Desk) -> None:
    await desk.keep(reading(-1))
    paths = [LATEST, FULL, DAY, SINCE, DAY + "&view=full", "/api/bg/ada"]
    tags = [await tag_of(desk, path) for path in paths]
    tags += [await tag_of(desk, DAY, Accept=each) for each in ("text/csv", "application/x-ndjson")]
    assert len(set(tags)) == len(tags)


async def test_growing_older_alone_changes_nothing_until_the_state_does(desk: Desk) -> None:
    await desk.keep(reading(-1))
    desk.clock.advance(timedelta(minutes=1))
    tag = await tag_of(desk, FULL)
    desk.clock.advance(timedelta(seconds=30))
    assert await still_holds(desk, FULL, tag)
    desk.clock.advance(timedelta(hours=1))
    late = await desk.http.get(FULL, headers={"If-None-Match": tag})
    assert late.json()["state"] == "late"


async def test_the_last_day_does_not_keep_a_reading_that_left_it(desk: Desk) -> None:
    await desk.keep(reading(-288), reading(-1))
    desk.clock.advance(timedelta(seconds=-1))
    tag = await tag_of(desk, "/api/bg/ada")
    desk.clock.advance(timedelta(seconds=2))
    assert not await still_holds(desk, "/api/bg/ada", tag)


async def test_a_reading_dated_ahead_appears_when_its_time_has_come(desk: Desk) -> None:
    await desk.keep(reading(-1), reading(1))
    desk.clock.advance(timedelta(minutes=4))
    tag = await tag_of(desk, SINCE)
    desk.clock.advance(timedelta(minutes=2))
    answer = await desk.http.get(SINCE, headers={"If-None-Match": tag})
    assert len(answer.json()) == 2


async def test_a_tag_made_while_the_store_may_lag_does_not_outlive_the_lag(desk: Desk) -> None:
    await desk.keep(reading(-1))
    tag = await tag_of(desk, DAY)
    desk.clock.advance(timedelta(seconds=1))
    assert await still_holds(desk, DAY, tag)
    desk.clock.advance(timedelta(seconds=10))
    assert not await still_holds(desk, DAY, tag)
