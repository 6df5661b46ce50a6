"""Contents of a commit: numbered changes, the head, the bound of the gap check, and the plan of an erasure."""

from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.changes import ReadingsRecorded, ReadingsRevised, UserErased, connection_changed
from bg_ingest.domain.commits import (
    NOTHING_ERASED,
    Commit,
    ConnectionSummary,
    ErasureCounts,
    Head,
    PendingErasure,
    plan_erasure,
    readings_commit,
    recheck_gaps_from,
    with_summary,
)
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.readings import Origin, Reading, StoredReading
from bg_ingest.domain.segments import KnownSegments, Segment, decide, segment_start
from tests.fakes.clock import NOON
from tests.harness.sample_values import USER, connection, reading

MINUTE, MILLISECOND = timedelta(minutes=1), timedelta(milliseconds=1)
HEAD = Head(USER, 4, NOON)


def commit_batch(head: Head, known: KnownSegments, *batch: Reading) -> Commit:
    at = head.next_recorded_at(NOON + MINUTE)
    decision = decide(known, batch, at=at, last_change=head.last_change)
    return readings_commit(head, known, decision, provider="acme", origin=Origin.LIVE, at=at)


@pytest.mark.slow
@given(st.integers(0, 10**9), st.one_of(st.none(), st.integers(-(10**6), 10**6)))
def test_a_change_is_later_than_the_one_before_and_in_whole_milliseconds(micros: int, before: int | None) -> None:
    now = NOON + timedelta(microseconds=micros)
    previous = None if before is None else now.replace(microsecond=0) + before * MILLISECOND
    at = Head(USER, recorded_at=previous).next_recorded_at(now)
    assert at.microsecond % 1000 == 0
    assert previous is None or at > previous
    assert at == now.replace(microsecond=now.microsecond // 1000 * 1000) or at == (previous or now) + MILLISECOND


def test_changes_follow_the_heads_last_number() -> None:
    data = connection_changed(connection(ConnectionState.PAUSED, reason="by_operator"))
    commit = Commit.of_changes(HEAD, [data, data], NOON + MINUTE)
    assert [change.number for change in commit.changes] == [5, 6]
    assert (commit.head.last_change, commit.head.recorded_at) == (6, NOON + MINUTE)
    assert (data.provider, data.state, data.reason) == ("acme", "paused", "by_operator")
    assert Commit.of_changes(HEAD, [], NOON + MINUTE).head == HEAD, "without a change the head stays"


def test_the_first_commit_of_a_user_begins_with_one_and_needs_the_user() -> None:
    data = connection_changed(connection())
    commit = Commit.of_changes(None, [data], NOON, user=USER)
    assert (commit.before, commit.changes[0].id, commit.user) == (None, "ada/1", USER)
    with pytest.raises(ValueError, match="needs the user"):
        Commit.of_changes(None, [data], NOON)


def test_new_readings_and_revisions_are_two_changes_of_one_commit() -> None:
    first = commit_batch(HEAD, {}, reading(0, 100))
    known = {segment.start: segment for segment in first.segments}
    commit = commit_batch(first.head, known, reading(0, 105), reading(1))
    assert [type(change.data) for change in commit.changes] == [ReadingsRecorded, ReadingsRevised]
    assert commit.known_segments == known
    assert [segment.start for segment in commit.segments] == [segment_start(NOON)]
    assert commit.head.newest is not None
    assert commit.head.newest.reading == reading(1)


def test_late_readings_leave_the_newest_and_a_revision_replaces_it() -> None:
    first = commit_batch(HEAD, {}, reading(9, 100))
    known: dict[datetime, Segment] = {segment.start: segment for segment in first.segments}
    late = commit_batch(first.head, known, reading(2))
    assert late.head.newest == first.head.newest
    revised = commit_batch(first.head, known, reading(9, 105))
    assert revised.head.newest is not None
    assert revised.head.newest.reading.glucose_mg_dl == 105


@pytest.mark.parametrize(("recorded", "checked_until"), [([], 20), ([5, 7], 20), ([3, 9], 15), ([4], 20)], ids=str)
def test_readings_from_before_it_move_the_gap_check_back(recorded: list[int], checked_until: int) -> None:
    head = msgspec.structs.replace(HEAD, gaps_checked_until={"acme": NOON + 20 * MINUTE, "other": NOON})
    stored = [StoredReading(reading(number), NOON, 1) for number in recorded]
    expected = {"acme": NOON + checked_until * MINUTE, "other": NOON}
    assert recheck_gaps_from(head, "acme", stored).gaps_checked_until == expected


def test_a_gap_check_that_never_ran_is_not_moved() -> None:
    assert recheck_gaps_from(HEAD, "acme", [StoredReading(reading(0), NOON, 1)]) == HEAD


def test_a_summary_replaces_that_of_its_provider_only() -> None:
    active = ConnectionSummary(ConnectionState.ACTIVE, 300, 0, 900)
    paused = msgspec.structs.replace(active, state=ConnectionState.PAUSED)
    head = with_summary(with_summary(HEAD, "acme", active), "other", active)
    assert with_summary(head, "acme", paused).summaries == {"acme": paused, "other": active}
    assert head.summaries == {"acme": active, "other": active}


SUMMARY = ConnectionSummary(ConnectionState.ACTIVE, 300, 0, 900)
FULL_HEAD = Head(
    USER, 4, NOON, StoredReading(reading(0), NOON, 4), {"acme": SUMMARY}, gaps_checked_until={"acme": NOON}
)


def test_of_the_head_only_numbers_and_time_stay() -> None:
    erasure = plan_erasure(USER, FULL_HEAD, [connection()], NOON)
    assert erasure.tombstone == Head(USER, 5, NOON + timedelta(milliseconds=1), erased=True, published=4)
    assert (erasure.change.number, erasure.change.data) == (5, UserErased())
    assert erasure.before == FULL_HEAD
    assert erasure.connections == (connection(),)
    assert erasure.pending == PendingErasure(USER, 5)


def test_a_user_without_a_head_can_be_erased() -> None:
    erasure = plan_erasure(USER, None, [], NOON)
    assert (erasure.tombstone.last_change, erasure.tombstone.erased, erasure.change.id) == (1, True, "ada/1")


def test_counts_are_added_by_kind() -> None:
    counts = ErasureCounts(1, 2, 3, 4, 5, 6, 7, 8)
    assert counts.merge(NOTHING_ERASED) == counts
    assert msgspec.structs.astuple(counts.merge(counts)) == (2, 4, 6, 8, 10, 12, 14, 16)
