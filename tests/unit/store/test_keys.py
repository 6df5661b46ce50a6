"""Keys: order, ranges and the parts that are read back. Their strings are in the snapshots."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.access import AuditAction, AuditRecord
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.quarantine import QuarantineKey
from bg_ingest.domain.windows import Window
from bg_ingest.store import keys
from tests.fakes.clock import NOON

ADA = UserId("ada")
HOUR = timedelta(hours=1)
PREFIXES = (keys.READINGS, keys.CONNECTIONS, keys.REQUESTS, keys.QUARANTINE, keys.STATES, keys.GRANTS)


@pytest.mark.slow
@given(st.lists(st.integers(1, 10**12 - 1), min_size=2, max_size=5))
def test_changes_and_outbox_rows_sort_by_number(numbers: list[int]) -> None:
    assert sorted(numbers, key=lambda number: keys.change(ADA, number)[1]) == sorted(numbers)
    assert sorted(numbers, key=lambda number: keys.outbox(ADA, number)[1]) == sorted(numbers)
    assert [keys.parse_change(keys.change(ADA, number)) for number in numbers] == numbers


@pytest.mark.slow
@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=2))
def test_segments_sort_by_time_and_months_are_read_back(instants: list[datetime]) -> None:
    hours = [instant.replace(minute=0, second=0, microsecond=0) for instant in instants]
    assert sorted(hours, key=lambda hour: keys.segment(ADA, hour)[1]) == sorted(hours)
    months = [hour.replace(day=1, hour=0) for hour in hours]
    identity = ConnectionId(ADA, "acme")
    assert [keys.parse_gap_month(keys.gap_month(identity, month)) for month in months] == months


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_range_contains_the_keys_with_the_prefix_only(prefix: str) -> None:
    low, high = keys.prefix_range(prefix)
    assert all(low <= prefix + rest <= high for rest in ("", "0", "~", "é"))
    assert not any(low <= other <= high for other in PREFIXES if other != prefix)
    assert not low <= prefix[:-1] <= high


@pytest.mark.parametrize("place", [0, 1, 10, 15, datetime(2026, 3, 2, 6, tzinfo=UTC)])
def test_quarantine_keys_are_read_back(place: QuarantineKey) -> None:
    assert keys.parse_quarantine(keys.quarantine(ADA, place)) == place


def test_quarantine_pages_without_a_time_sort_last() -> None:
    timed = keys.quarantine(ADA, datetime(9999, 12, 31, 18, tzinfo=UTC))
    assert all(keys.quarantine(ADA, number) > timed for number in range(16))


def test_an_audit_range_is_half_open() -> None:
    _, low, high = keys.audit_range("ab", Window(NOON, NOON + HOUR))
    within = [
        low <= keys.audit(AuditRecord("ab", at, AuditAction.CHANGE, "key", "GET /"))[1] <= high
        for at in (NOON - timedelta(milliseconds=1), NOON, NOON + HOUR - timedelta(milliseconds=1), NOON + HOUR)
    ]
    assert within == [False, True, True, False]


def test_only_rows_below_a_user_have_one() -> None:
    assert keys.parse_user(keys.head(ADA)) == ADA
    assert keys.parse_user(keys.META) is None
    assert keys.parse_user(keys.outbox(ADA, 7)) is None
