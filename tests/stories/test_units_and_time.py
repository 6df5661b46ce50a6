"""Units and time from the provider's page to the API's answer: converted once, shown with the user's offset."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from bg_ingest.domain.readings import AsSent
from tests.harness.service import START
from tests.harness.webhook_sender import record
from tests.unit.services.polling.test_webhooks import ConnectedSender, open_sender

Answer = list[dict[str, Any]]


@pytest.fixture
async def sender() -> AsyncIterator[ConnectedSender]:
    async with open_sender() as opened:
        yield opened


async def shown(sender: ConnectedSender, *pushed: dict[str, Any]) -> Answer:
    """Push records and return them in the API's full view."""
    await sender.counts(pushed)
    query = {"view": "full", "from": "2025-01-01", "to": "2027-01-01"}
    answer: Answer = (await sender.service.api.get("/api/bg/ada", params=query)).json()
    return answer


def seen(record: dict[str, Any], wall: str) -> dict[str, Any]:
    return record | {"displayTime": wall}


async def test_case_32_mmol_is_shown_in_both_units_and_the_original_is_kept(sender: ConnectedSender) -> None:
    (found,) = await shown(sender, record(START, 7.8, unit="mmol/L", rateUnit="mmol/L/min", trendRate=0.1))
    assert (found["glucose_mg_dl"], found["glucose_mmol_l"], found["trend_rate_mg_dl_min"]) == (141, 7.8, 1.8)
    (stored,) = await sender.service.stored_readings("ada")
    assert stored.reading.sent == AsSent(7.8, "mmol/L")


@pytest.mark.parametrize("tenths", range(23, 222, 7))
async def test_case_32_every_mmol_value_comes_back_as_it_was(tenths: int) -> None:
    async with open_sender() as sender:
        (found,) = await shown(sender, record(START, tenths / 10, unit="mmol/L"))
        assert found["glucose_mmol_l"] == tenths / 10


async def test_case_31_low_and_high_are_pinned_flagged_and_said_by_number_word_or_status(
    sender: ConnectedSender,
) -> None:
    pages = [(25, "ok"), ("LOW", None), (40, "low"), (500, "ok"), ("High", None), (400, "high"), (40, "ok"), (400, "")]
    found = await shown(
        sender,
        *(record(START + n * timedelta(minutes=5) - timedelta(hours=1), v, status=s) for n, (v, s) in enumerate(pages)),
    )
    assert [(each["glucose_mg_dl"], each["flag"]) for each in found] == [
        *[(39, "low")] * 3,
        *[(401, "high")] * 3,
        (40, "ok"),
        (400, "ok"),
    ]


async def test_case_25_clocks_set_back_show_an_hour_twice_and_both_are_kept(sender: ConnectedSender) -> None:
    """In Berlin 2025-10-26 03:00 became 02:00: 02:30 came twice."""
    first, second = datetime(2025, 10, 26, 0, 30, tzinfo=UTC), datetime(2025, 10, 26, 1, 30, tzinfo=UTC)
    found = await shown(
        sender,
        seen(record(first, 100), "2025-10-26T02:30:00+02:00"),
        seen(record(second, 101), "2025-10-26T02:30:00+01:00"),
    )
    assert [each["timestamp"] for each in found] == ["2025-10-26T00:30:00Z", "2025-10-26T01:30:00Z"]
    assert [each["utc_offset_seconds"] for each in found] == [7200, 3600]


async def test_case_25_clocks_set_forward_leave_nothing_out(sender: ConnectedSender) -> None:
    """In Berlin 2026-03-29 02:00 became 03:00; here a receiver, which sends no offset, a year before."""
    start = datetime(2025, 3, 30, 0, 50, tzinfo=UTC)
    walls = ["01:50", "01:55", "03:00", "03:05"]
    found = await shown(
        sender,
        *(
            seen(record(start + number * timedelta(minutes=5), 100), f"2025-03-30T{wall}:00")
            for number, wall in enumerate(walls)
        ),
    )
    times = [datetime.fromisoformat(each["timestamp"]) for each in found]
    assert [later - earlier for earlier, later in pairwise(times)] == [timedelta(minutes=5)] * 3
    assert [each["utc_offset_seconds"] for each in found] == [3600, 3600, 7200, 7200]


async def test_case_26_a_traveller_stays_in_order_and_each_reading_has_its_own_offset(sender: ConnectedSender) -> None:
    noon = START - timedelta(hours=3)
    found = await shown(
        sender,
        seen(record(noon, 100), f"{noon + timedelta(hours=1):%Y-%m-%dT%H:%M:%S}+01:00"),
        seen(record(noon + timedelta(minutes=5), 101), f"{noon - timedelta(hours=8):%Y-%m-%dT%H:%M:%S}-08:00"),
        seen(record(noon + timedelta(minutes=10), 102), f"{noon + timedelta(hours=5, minutes=55):%Y-%m-%dT%H:%M:%S}"),
    )
    assert [each["glucose_mg_dl"] for each in found] == [100, 101, 102]
    assert [each["utc_offset_seconds"] for each in found] == [3600, -8 * 3600, 20_700], "+05:45 is kept exactly"


async def test_case_27_a_receivers_drifting_clock_is_no_part_of_its_offset(sender: ConnectedSender) -> None:
    drifted = START - timedelta(hours=1)
    wall = drifted + timedelta(hours=5, minutes=45, seconds=-97)
    (found,) = await shown(sender, seen(record(drifted, 100), f"{wall:%Y-%m-%dT%H:%M:%S}"))
    assert found["utc_offset_seconds"] == 20_700


@pytest.mark.parametrize("wall", ["2019-01-01T00:00:00", "", None])
async def test_case_27_a_display_with_a_wrong_date_costs_the_offset_alone(wall: str | None) -> None:
    async with open_sender() as sender:
        (found,) = await shown(sender, record(START, 100, displayTime=wall))
        assert (found["glucose_mg_dl"], found["utc_offset_seconds"]) == (100, None)
