"""Timestamps in every observed form, and the offsets of real time zones."""

from datetime import UTC, datetime, timedelta

import pytest

from bg_ingest.providers.dexcom.times import Stamp, parse_stamp, utc_offset_seconds

TEN = datetime(2024, 5, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01T10:00:00Z",
        "2024-05-01T10:00:00z",
        "2024-05-01t10:00:00Z",
        "2024-05-01T10:00:00+00:00",
        "2024-05-01T03:00:00-07:00",
        "2024-05-01T03:00:00-0700",
        "2024-05-01T03:00:00-07",
        "2024-05-01T03:00:00-07:00:00",
        "2024-05-01T03:00:00-06:59:58",
        "2024-05-01T03:00:00-07:00:02",
        "2024-05-01T15:45:00+05:45",
        "2024-05-01T10:00:00",
        "2024-05-01T10:00",
        "2024-05-01T10:00Z",
        "2024-5-1T10:0:0Z",
        "2024-05-01 10:00:00",
        "2024-05-01 10:00:00Z",
        " 2024-05-01T10:00:00Z ",
        *(f"2024-05-01T10:00:00.{'123456789'[:digits]}Z" for digits in range(1, 10)),
        "2024-05-01T10:00:00.999999999",
        "2024-05-01T10:00:00.9999-00:00",
        "2024-05-01T03:00:00.123456789-06:59:58",
    ],
)
def test_case_24_one_instant_in_many_forms(text: str) -> None:
    found = parse_stamp(text)
    assert found is not None
    assert found.utc == TEN


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "yesterday",
        "2024-05-01T10:00:00Z05:00",
        "2024-05-01T10:00:00.1234567890Z",
        "2024-05-01T10:00:00.",
        "2024-05-01T10:00:00+24:00",
        "2024-05-01T10:00+01:60",
        "2024-13-01T10:00:00Z",
        "2024-02-30T10:00:00Z",
        "2024-05-01T25:00:00Z",
        "2024-05-01T10:61:00Z",
        "2024-05-01T10:00:60Z",
        "2024-05-01-07:00",
        "2024-05-01T",
        "T10:00:00",
        "1714557600",
        "٢٠٢٤-٠٥-٠١T١٠:٠٠:٠٠Z",  # noqa: RUF001 - digits, but not ASCII's
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
    ],
)
def test_case_24_what_is_no_time_is_none(text: str) -> None:
    assert parse_stamp(text) is None


def test_a_date_alone_is_its_midnight() -> None:
    assert parse_stamp("2024-05-01") == Stamp(datetime(2024, 5, 1, tzinfo=UTC), None)


@pytest.mark.parametrize(
    ("text", "offset"),
    [("-06:59:58", -7 * 3600), ("-06:59:29", -(6 * 60 + 59) * 60), ("+05:44:30", 20_700), ("+05:45", 20_700), ("Z", 0)],
)
def test_case_24_an_offset_is_rounded_to_the_minute(text: str, offset: int) -> None:
    assert parse_stamp(f"2024-05-01T10:00:00{text}") == Stamp(TEN, offset)


@pytest.mark.parametrize(
    ("shown_after_seconds", "offset"),
    [
        (0, 0),
        (-7 * 3600, -25_200),
        (-7 * 3600 + 95, -25_200),
        (-7 * 3600 - 449, -25_200),
        (20_700, 20_700),
        (20_700 - 30, 20_700),
        (14 * 3600 + 60, 50_400),
        (-12 * 3600 - 60, -43_200),
        (15 * 3600, None),
        (-13 * 3600, None),
        (24 * 3600, None),
    ],
)
def test_case_27_a_bare_display_time_gives_the_offset_in_quarters_of_an_hour(
    shown_after_seconds: int, offset: int | None
) -> None:
    shown = Stamp(TEN + timedelta(seconds=shown_after_seconds), None)
    assert utc_offset_seconds(shown, TEN) == offset


def test_case_26_a_stated_offset_is_kept_with_any_clock() -> None:
    assert utc_offset_seconds(Stamp(TEN, 20_700), TEN) == 20_700
    assert utc_offset_seconds(Stamp(TEN, 23 * 3600), TEN) is None
