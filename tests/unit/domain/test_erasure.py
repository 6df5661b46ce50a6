"""Plan of an erasure, and the sum of its counts."""

from datetime import timedelta

import msgspec

from bg_ingest.domain.changes import UserErased
from bg_ingest.domain.commits import ConnectionSummary, Head
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.erasure import NOTHING_ERASED, ErasureCounts, PendingErasure, plan_erasure
from bg_ingest.domain.readings import StoredReading
from tests.fakes.clock import NOON
from tests.harness.sample_values import USER, connection, reading

SUMMARY = ConnectionSummary(ConnectionState.ACTIVE, 300, 0, 900)
HEAD = Head(USER, 4, NOON, StoredReading(reading(0), NOON, 4), {"acme": SUMMARY}, gaps_checked_until={"acme": NOON})


def test_of_the_head_only_number_and_time_stay() -> None:
    erasure = plan_erasure(USER, HEAD, [connection()], NOON)
    assert erasure.tombstone == Head(USER, 5, NOON + timedelta(milliseconds=1), erased=True)
    assert (erasure.change.number, erasure.change.data) == (5, UserErased())
    assert erasure.before == HEAD
    assert erasure.connections == (connection(),)
    assert erasure.pending == PendingErasure(USER, 5)


def test_a_user_without_a_head_can_be_erased() -> None:
    erasure = plan_erasure(USER, None, [], NOON)
    assert (erasure.tombstone.last_change, erasure.tombstone.erased, erasure.change.id) == (1, True, "ada/1")


def test_counts_are_added_by_kind() -> None:
    counts = ErasureCounts(1, 2, 3, 4, 5, 6, 7, 8)
    assert counts.merge(NOTHING_ERASED) == counts
    assert msgspec.structs.astuple(counts.merge(counts)) == (2, 4, 6, 8, 10, 12, 14, 16)
