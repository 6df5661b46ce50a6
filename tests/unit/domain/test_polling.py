"""Sums of poll results."""

import msgspec
import pytest

from bg_ingest.domain.polling import ORIGINS, Outcome, PollKind, PollResult

READ = PollResult(Outcome.READ, 1, 2, 3, 4, 5, 6)
NOTHING_NEW = PollResult(Outcome.NOTHING_NEW, duplicates=9)


def test_all_counts_are_added() -> None:
    merged = READ.merge(READ)
    assert msgspec.structs.astuple(merged) == (Outcome.READ, 2, 4, 6, 8, 10, 12)


@pytest.mark.parametrize(
    ("earlier", "later", "outcome"),
    [
        (READ, NOTHING_NEW, Outcome.READ),
        (NOTHING_NEW, READ, Outcome.READ),
        (NOTHING_NEW, NOTHING_NEW, Outcome.NOTHING_NEW),
        (READ, PollResult(Outcome.FENCED), Outcome.FENCED),
    ],
)
def test_the_later_outcome_wins_unless_it_brought_nothing(
    earlier: PollResult, later: PollResult, outcome: Outcome
) -> None:
    assert earlier.merge(later).outcome is outcome


def test_every_kind_of_fetch_has_an_origin() -> None:
    assert set(ORIGINS) == set(PollKind)
