"""Pages of quarantined records: additions, removals, and the digests of dropped records."""

import msgspec

from bg_ingest.domain.quarantine import MAX_DROPPED_DIGESTS, QuarantinedRecord, QuarantinePage
from tests.fakes.clock import NOON


def record(number: int) -> QuarantinedRecord:
    return QuarantinedRecord("no_value", b"digest %d" % number, b"sealed %d" % number, NOON, "acme", "account-1")


PAGE = QuarantinePage(NOON, 3, (record(1), record(2)))


def test_a_record_is_found_by_its_digest() -> None:
    assert PAGE.find(record(2).digest) == record(2)
    assert PAGE.find(record(3).digest) is None


def test_every_write_counts_up_the_version() -> None:
    pages = [PAGE.with_added([record(3)]), PAGE.without(record(1).digest), PAGE.with_dropped(record(1).digest)]
    assert [page.version for page in pages] == [4, 4, 4]
    assert pages[0].records == (record(1), record(2), record(3))
    assert pages[1].records == (record(2),)


def test_an_empty_page_goes_on_counting() -> None:
    empty = PAGE.without(record(1).digest).without(record(2).digest)
    assert (empty.version, empty.records) == (5, ())


def test_of_a_dropped_record_only_the_digest_stays() -> None:
    dropped = PAGE.with_dropped(record(1).digest)
    assert dropped.find(record(1).digest) == msgspec.structs.replace(record(1), sealed=b"")
    assert dropped.find(record(2).digest) == record(2)


def test_digests_of_the_records_dropped_longest_ago_are_deleted() -> None:
    empty = tuple(msgspec.structs.replace(record(n), sealed=b"") for n in range(10, 10 + MAX_DROPPED_DIGESTS))
    full = QuarantinePage(NOON, 1, (*empty, record(1), record(2)))
    dropped = full.with_dropped(record(2).digest)
    assert dropped.find(record(10).digest) is None
    assert dropped.find(record(11).digest) is not None
    assert dropped.find(record(2).digest) == msgspec.structs.replace(record(2), sealed=b"")
    assert dropped.find(record(1).digest) == record(1)
    assert sum(not kept.sealed for kept in dropped.records) == MAX_DROPPED_DIGESTS
