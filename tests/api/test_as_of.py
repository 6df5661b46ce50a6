"""What was known then: later readings are absent, revised ones have the value they had, and it never changes again."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from bg_ingest.domain.readings import Flag, Sent
from bg_ingest.services.read import Reader
from tests.api.desk import ADA, Desk, open_desk, reading
from tests.fakes.clock import NOON
from tests.fakes.lagging import Lagging

RANGE = "/api/bg/ada"
MINUTE = timedelta(minutes=1)
SINCE_MORNING = {"from": "2026-03-02T08:00:00Z"}


def z(minutes: float) -> str:
    return f"{NOON + minutes * MINUTE:%Y-%m-%dT%H:%M:%SZ}"


async def asked(desk: Desk, **query: str) -> list[dict[str, Any]]:
    answer = await desk.http.get(RANGE, params=SINCE_MORNING | query)
    assert answer.status_code == 200, answer.text
    return list(answer.json())


async def values(desk: Desk, **query: str) -> list[int]:
    return [each["glucose_mg_dl"] for each in await asked(desk, **query)]


async def revised_twice(desk: Desk) -> None:
    """One reading at noon, revised at 12:10 beside a new one, and again at 12:20."""
    await desk.keep(reading(-2, 100, trend="flat", trend_rate_mg_dl_min=0.1, utc_offset_seconds=3600))
    desk.clock.advance(10 * MINUTE)
    other = reading(-2, 39, trend="singleDown", trend_rate_mg_dl_min=-2.1, sent=Sent(30, "mg/dL"))
    await desk.keep(msgspec.structs.replace(other, flag=Flag.LOW), reading(1, 90))
    desk.clock.advance(10 * MINUTE)
    await desk.keep(reading(-2, 101, trend="flat"))
    desk.clock.advance(10 * MINUTE)


async def test_later_readings_are_absent_and_revised_ones_have_their_value_of_then(desk: Desk) -> None:
    await revised_twice(desk)
    assert await values(desk) == [101, 90]
    assert await values(desk, as_of=z(-1)) == []
    assert await values(desk, as_of=z(5)) == [100]
    assert await values(desk, as_of=z(15)) == [39, 90]
    assert await values(desk, as_of=z(25)) == [101, 90]


async def test_change_numbers_say_the_same_exactly_also_within_one_commit(desk: Desk) -> None:
    await revised_twice(desk)
    by_number = [await values(desk, as_of_change=str(number)) for number in range(5)]
    assert by_number == [[], [100], [100, 90], [39, 90], [101, 90]]


async def test_all_that_is_shown_is_of_then_not_only_the_value(desk: Desk) -> None:
    await desk.keep(reading(-2, 100, trend="flat", trend_rate_mg_dl_min=0.1, utc_offset_seconds=3600))
    then = await asked(desk, view="full")
    await desk.keep(msgspec.structs.replace(reading(-2, 39, trend="singleDown"), flag=Flag.LOW))
    assert await asked(desk, view="full") != then
    assert await asked(desk, view="full", as_of_change="1") == then


async def test_the_answer_is_the_one_given_then_word_for_word(desk: Desk) -> None:
    given: dict[str, str] = {}
    for batch in ([reading(-2, 100)], [reading(-2, 105), reading(-40, 90)], [reading(2, 80)]):
        await desk.keep(*batch)
        desk.clock.advance(5 * MINUTE)
        for query in ("?", "?view=full&", "?from=2026-03-01&"):
            text = (await desk.http.get(RANGE + query.rstrip("&"))).text
            given[f"{query}as_of={desk.clock.now():%Y-%m-%dT%H:%M:%SZ}"] = text
        desk.clock.advance(timedelta(seconds=1))
    desk.clock.advance(timedelta(days=3))
    await desk.keep(reading(-2, 70), reading(-1, 71), reading(2, 72), reading(400, 73))
    for query, text in given.items():
        assert (await desk.http.get(RANGE + query)).text == text
    assert len(set(given.values())) > 5


async def test_the_recorded_at_that_is_shown_is_a_time_at_which_it_was_known(desk: Desk) -> None:
    desk.clock.advance(timedelta(milliseconds=750))
    await desk.keep(reading(-1))
    desk.clock.advance(2 * MINUTE)
    (shown,) = await asked(desk, view="full")
    assert shown["recorded_at"] == z(0)
    assert len(await asked(desk, as_of=shown["recorded_at"])) == 1
    assert await asked(desk, as_of=z(-1 / 60)) == []


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ({"as_of": z(0.5)}, "last minute"),
        ({"as_of": z(1)}, "now"),
        ({"as_of": z(60)}, "future"),
        ({"as_of": z(0.1), "as_of_change": "1"}, "both"),
        ({"as_of_change": "2"}, "beyond the last change"),
        ({"as_of_change": "-1"}, "no number"),
        ({"as_of_change": "1.0"}, "no number"),
        ({"as_of_change": "\N{ARABIC-INDIC DIGIT ONE}"}, "no number of ours"),
        ({"as_of_change": "1" * 13}, "too long"),
    ],
    ids=str,
)
async def test_what_could_still_become_otherwise_is_refused(desk: Desk, query: dict[str, str], what: str) -> None:
    await desk.keep(reading(-1))
    desk.clock.advance(MINUTE)
    answer = await desk.http.get(RANGE, params=query)
    assert (answer.status_code, answer.json()["type"]) == (400, "invalid-as-of"), what


async def test_a_minute_ago_is_answered(desk: Desk) -> None:
    await desk.keep(reading(-1))
    desk.clock.advance(MINUTE)
    assert await values(desk, as_of=z(0)) == [110]
    assert await values(desk, as_of="") == [110]


async def test_a_time_without_offset_is_refused_and_an_unknown_user_unknown(desk: Desk) -> None:
    answer = await desk.http.get(RANGE, params={"as_of": "2026-03-02T11:00:00"})
    assert (answer.status_code, answer.json()["type"]) == (400, "invalid-time")
    for query in ({"as_of": z(-60)}, {"as_of_change": "1"}):
        assert (await desk.http.get(RANGE, params=query)).status_code == 404


async def test_latest_has_no_past(desk: Desk) -> None:
    await desk.keep(reading(-1))
    answer = await desk.http.get(RANGE + "/latest", params={"as_of_change": "1"})
    assert (answer.status_code, answer.json()["type"]) == (400, "unknown-parameter")


async def test_the_other_formats_know_it(desk: Desk) -> None:
    await revised_twice(desk)
    query = SINCE_MORNING | {"as_of": z(5), "view": "full"}
    (line,) = (await desk.http.get(RANGE, params=query, headers={"Accept": "application/x-ndjson"})).text.splitlines()
    assert msgspec.json.decode(line)["glucose_mg_dl"] == 100
    header, row = (await desk.http.get(RANGE, params=query, headers={"Accept": "text/csv"})).text.splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["glucose_mg_dl"] == "100"


async def test_its_tag_holds_and_is_its_own(desk: Desk) -> None:
    await revised_twice(desk)
    plain = await desk.http.get(RANGE, params=SINCE_MORNING)
    then = await desk.http.get(RANGE, params=SINCE_MORNING | {"as_of": z(5)})
    assert plain.headers["etag"] != then.headers["etag"]
    again = {"If-None-Match": then.headers["etag"]}
    assert (await desk.http.get(RANGE, params=SINCE_MORNING | {"as_of": z(5)}, headers=again)).status_code == 304


async def test_it_is_exact_while_the_store_lags() -> None:
    async with open_desk() as desk:
        await desk.keep(reading(-2, 100))
        lagging = Lagging(desk.table)
        desk.services.reader = Reader(lagging.store(desk.clock).readings, desk.clock)
        await lagging.keep(desk, reading(-2, 105), reading(-1, 90))
        head = await desk.services.reader.head(ADA)
        assert await values(desk) == [100], "a plain range may lag"
        assert await values(desk, as_of_change=str(head.last_change)) == [105, 90]
