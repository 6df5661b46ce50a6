"""Offsets and midnights of zones."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.local_time import Zone, day_to_date

ZONES = ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana"]


@pytest.mark.slow
@given(st.sampled_from(ZONES), st.lists(st.integers(0, 2_000_000_000), min_size=1, max_size=20))
def test_the_offset_is_that_of_the_zone_at_each_second(name: str, seconds: list[int]) -> None:
    zone = Zone(name)
    for second in [base + later for base in seconds for later in (0, 1, 3_599)]:
        expected = datetime.fromtimestamp(second, ZoneInfo(name)).utcoffset()
        assert timedelta(seconds=zone.offset(second, 7_200)) == expected


def test_in_the_zone_own_the_offset_of_the_reading_counts_and_utc_if_it_is_unknown() -> None:
    zone = Zone("own")
    assert (zone.offset(0, 7_200), zone.offset(0, None)) == (7_200, 0)
    assert zone.midnight(10, 7_200) == 10 * 86_400 - 7_200


@pytest.mark.parametrize("name", ["", "Mars/Phobos", "../../etc/passwd", "America", "own ", "\0", "ø"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        Zone(name)


@pytest.mark.parametrize(
    ("name", "date", "hours"),
    [("Europe/Berlin", "2026-03-29", 23), ("America/Havana", "2026-03-08", 23), ("UTC", "2026-03-01", 24)],
)
def test_a_day_lasts_from_midnight_to_midnight_also_without_a_midnight(name: str, date: str, hours: int) -> None:
    day = int(datetime.fromisoformat(f"{date}T00:00:00Z").timestamp()) // 86_400
    zone = Zone(name)
    assert zone.midnight(day + 1, 0) - zone.midnight(day, 0) == hours * 3_600
    assert zone.midnight_of(day_to_date(day)) == datetime.fromtimestamp(zone.midnight(day, 0), UTC)
