"""Points in time of queries: an answer as of then omits later readings, has earlier values, and never changes."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from bg_ingest.domain.readings import AsSent, Flag
from bg_ingest.services.queries.readings import ReadingQueries
from tests.fakes.clock import NOON
from tests.fakes.stale_reads import LaggingTable
from tests.harness.api import ADA, ApiHarness, open_api, reading

RANGE = "/api/bg/ada"
MINUTE = timedelta(minutes=1)
SINCE_MORNING = {"from": "2026-03-02T08:00:00Z"}


def api_time(minutes: float) -> str:
    return f"{NOON + minutes * MINUTE:%Y-%m-%dT%H:%M:%SZ}"


async def get_range(api: ApiHarness, **query: str) -> list[dict[str, Any]]:
    answer = await api.http.get(RANGE, params=SINCE_MORNING | query)
    assert answer.status_code == 200, answer.text
    return list(answer.json())


async def values(api: ApiHarness, **query: str) -> list[int]:
    return [each["glucose_mg_dl"] for each in await get_range(api, **query)]


async def add_twice_revised_readings(api: ApiHarness) -> None:
    """One reading at noon, revised at 12:10 beside a new one, and again at 12:20."""
    await api.add_readings(reading(-2, 100, trend="flat", trend_rate_mg_dl_min=0.1, utc_offset_seconds=3600))
    api.clock.advance(10 * MINUTE)
    other = reading(-2, 39, trend="singleDown", trend_rate_mg_dl_min=-2.1, sent=AsSent(30, "mg/dL"))
    await api.add_readings(msgspec.structs.replace(other, flag=Flag.LOW), reading(1, 90))
    api.clock.advance(10 * MINUTE)
    await api.add_readings(reading(-2, 101, trend="flat"))
    api.clock.advance(10 * MINUTE)


async def test_later_readings_are_absent_and_revised_ones_have_their_value_of_then(api: ApiHarness) -> None:
    await add_twice_revised_readings(api)
    assert await values(api) == [101, 90]
    assert await values(api, as_of=api_time(-1)) == []
    assert await values(api, as_of=api_time(5)) == [100]
    assert await values(api, as_of=api_time(15)) == [39, 90]
    assert await values(api, as_of=api_time(25)) == [101, 90]


async def test_change_numbers_say_the_same_exactly_also_within_one_commit(api: ApiHarness) -> None:
    await add_twice_revised_readings(api)
    by_number = [await values(api, as_of_change=str(number)) for number in range(5)]
    assert by_number == [[], [100], [100, 90], [39, 90], [101, 90]]


async def test_all_that_is_shown_is_of_then_not_only_the_value(api: ApiHarness) -> None:
    await api.add_readings(reading(-2, 100, trend="flat", trend_rate_mg_dl_min=0.1, utc_offset_seconds=3600))
    then = await get_range(api, view="full")
    await api.add_readings(msgspec.structs.replace(reading(-2, 39, trend="singleDown"), flag=Flag.LOW))
    assert await get_range(api, view="full") != then
    assert await get_range(api, view="full", as_of_change="1") == then


async def test_the_answer_is_the_one_given_then_word_for_word(api: ApiHarness) -> None:
    given: dict[str, str] = {}
    for batch in ([reading(-2, 100)], [reading(-2, 105), reading(-40, 90)], [reading(2, 80)]):
        await api.add_readings(*batch)
        api.clock.advance(5 * MINUTE)
        for query in ("?", "?view=full&", "?from=2026-03-01&"):
            text = (await api.http.get(RANGE + query.rstrip("&"))).text
            given[f"{query}as_of={api.clock.now():%Y-%m-%dT%H:%M:%SZ}"] = text
        api.clock.advance(timedelta(seconds=1))
    api.clock.advance(timedelta(days=3))
    await api.add_readings(reading(-2, 70), reading(-1, 71), reading(2, 72), reading(400, 73))
    for query, text in given.items():
        assert (await api.http.get(RANGE + query)).text == text
    assert len(set(given.values())) > 5


async def test_the_recorded_at_that_is_shown_is_a_time_at_which_it_was_known(api: ApiHarness) -> None:
    api.clock.advance(timedelta(milliseconds=750))
    await api.add_readings(reading(-1))
    api.clock.advance(2 * MINUTE)
    (shown,) = await get_range(api, view="full")
    assert shown["recorded_at"] == api_time(0)
    assert len(await get_range(api, as_of=shown["recorded_at"])) == 1
    assert await get_range(api, as_of=api_time(-1 / 60)) == []


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ({"as_of": api_time(0.5)}, "last minute"),
        ({"as_of": api_time(1)}, "now"),
        ({"as_of": api_time(60)}, "future"),
        ({"as_of": api_time(0.1), "as_of_change": "1"}, "both"),
        ({"as_of_change": "2"}, "beyond the last change"),
        ({"as_of_change": "-1"}, "no number"),
        ({"as_of_change": "1.0"}, "no number"),
        ({"as_of_change": "\N{ARABIC-INDIC DIGIT ONE}"}, "no number of ours"),
        ({"as_of_change": "1" * 13}, "too long"),
    ],
    ids=str,
)
async def test_what_could_still_become_otherwise_is_refused(api: ApiHarness, query: dict[str, str], what: str) -> None:
    await api.add_readings(reading(-1))
    api.clock.advance(MINUTE)
    answer = await api.http.get(RANGE, params=query)
    assert (answer.status_code, answer.json()["type"]) == (400, "invalid-as-of"), what


async def test_a_minute_ago_is_answered(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    api.clock.advance(MINUTE)
    assert await values(api, as_of=api_time(0)) == [110]
    assert await values(api, as_of="") == [110]


async def test_a_time_without_offset_is_refused_and_an_unknown_user_unknown(api: ApiHarness) -> None:
    answer = await api.http.get(RANGE, params={"as_of": "2026-03-02T11:00:00"})
    assert (answer.status_code, answer.json()["type"]) == (400, "invalid-time")
    for query in ({"as_of": api_time(-60)}, {"as_of_change": "1"}):
        assert (await api.http.get(RANGE, params=query)).status_code == 404


async def test_latest_has_no_past(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    answer = await api.http.get(RANGE + "/latest", params={"as_of_change": "1"})
    assert (answer.status_code, answer.json()["type"]) == (400, "unknown-parameter")


async def test_the_other_formats_know_it(api: ApiHarness) -> None:
    await add_twice_revised_readings(api)
    query = SINCE_MORNING | {"as_of": api_time(5), "view": "full"}
    (line,) = (await api.http.get(RANGE, params=query, headers={"Accept": "application/x-ndjson"})).text.splitlines()
    assert msgspec.json.decode(line)["glucose_mg_dl"] == 100
    header, row = (await api.http.get(RANGE, params=query, headers={"Accept": "text/csv"})).text.splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["glucose_mg_dl"] == "100"


async def test_its_tag_holds_and_is_its_own(api: ApiHarness) -> None:
    await add_twice_revised_readings(api)
    plain = await api.http.get(RANGE, params=SINCE_MORNING)
    then = await api.http.get(RANGE, params=SINCE_MORNING | {"as_of": api_time(5)})
    assert plain.headers["etag"] != then.headers["etag"]
    again = {"If-None-Match": then.headers["etag"]}
    assert (await api.http.get(RANGE, params=SINCE_MORNING | {"as_of": api_time(5)}, headers=again)).status_code == 304


async def test_it_is_exact_while_the_store_lags() -> None:
    async with open_api() as api:
        await api.add_readings(reading(-2, 100))
        lagging = LaggingTable(api.table)
        api.replace_services(reader=ReadingQueries(lagging.store(api.clock).readings, api.clock))
        await lagging.add_readings(api, reading(-2, 105), reading(-1, 90))
        head = await api.services.reader.head(ADA)
        assert await values(api) == [100], "a plain range may lag"
        assert await values(api, as_of_change=str(head.last_change)) == [105, 90]
