"""Local times of files, and the order of day and month."""

from datetime import datetime

import pytest

from bg_ingest.domain.files.times import choose_date_order, parse_local_time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-05-01T00:01:47", "2025-05-01T00:01:47"),
        ("2025-05-01 0:01:47", "2025-05-01T00:01:47"),
        ("2025-05-01T00:01:47.500", "2025-05-01T00:01:47"),
        ("2025.5.1 0:01", "2025-05-01T00:01:00"),
        ("1.5.2025 00.01.47", "2025-05-01T00:01:47"),
        ("1/5/2025 12:01 AM", "2025-05-01T00:01:00"),
        ("1-5-2025 12:01:47 p. m.", "2025-05-01T12:01:47"),
        ("01.05.25 11:59 PM", "2025-05-01T23:59:00"),
    ],
)
def test_forms_of_a_local_time(text: str, expected: str) -> None:
    assert parse_local_time(text, "dmy") == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "2025-05-01", "2025-02-30T00:00:00", "2025-05-01T24:00:00", "13:00 PM", "1/5/2025 13:00 PM"),
        *("1/5/2025 0:30 AM", "0001-01-01T00:00:00", "9999-12-31T00:00:00", "2025-05-01T00:01+01", "45976.29"),
        *("2025-04-26T14+01:00", "2025-04-26T14:30:0Z"),
        *("1/5-2025 0:01", "٢025-05-01T00:01:47", "2025-05-01T00:01:60", "2025-05-01T00:01:47T00:01:47"),
    ],
)
def test_other_texts_are_no_local_time(text: str) -> None:
    assert parse_local_time(text, "dmy") is None


@pytest.mark.parametrize(
    ("texts", "order"),
    [
        ([], "dmy"),
        (["2025-05-01T00:01:47", "01.02.2025 10:00"], "dmy"),
        (["5/1/2025 10:00", "13/1/2025 10:00"], "dmy"),
        (["5/1/2025 10:00", "5/13/2025 10:00"], "mdy"),
        (["6/5/2025 23:58", "7/5/2025 0:03"], "dmy"),
        (["6/5/2025 23:58", "6/6/2025 0:03"], "mdy"),
        (["6/6/2025 23:00", "6/6/2025 23:05"], "dmy"),
        (["6/5/2025 23:00", "6/5/2025 23:05"], None),
    ],
)
def test_the_whole_file_shows_the_order(texts: list[str], order: str | None) -> None:
    assert choose_date_order(texts) == order


def test_with_dots_the_day_is_first() -> None:
    assert parse_local_time("1.5.2025 0:01", "mdy") == parse_local_time("1.5.2025 0:01", "dmy")
