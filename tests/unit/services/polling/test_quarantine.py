"""Quarantine of unreadable records: the rest of their page is stored, and a record is stored once."""

from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import msgspec
import pytest
import structlog.testing

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.domain.polling import Outcome, PollResult
from bg_ingest.domain.readings import Unreadable
from bg_ingest.ports import Observer
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.polling.quarantine import MAX_RECORDS_PER_PAGE, Quarantine
from bg_ingest.services.polling.quarantine_review import ReviewedRecord
from bg_ingest.simulator.faults import (
    Damaged,
)
from tests.harness.connected_user import ConnectedUser
from tests.harness.service import START, open_service
from tests.harness.webhook_sender import record
from tests.unit.services.polling.test_quarantine_review import BROKEN_RECORDS
from tests.unit.services.polling.test_webhooks import (
    ADA,
    HOUR_AGO,
    ConnectedSender,
    open_sender,
)


@pytest.fixture
async def sender() -> AsyncIterator[ConnectedSender]:
    async with open_sender() as opened:
        yield opened


async def records_by_reason(sender: ConnectedSender) -> dict[str, ReviewedRecord]:
    return {each.record.reason: each async for each in sender.service.services.quarantine_review.iter_records(ADA.user)}


async def values(sender: ConnectedSender) -> list[int]:
    return [each.reading.glucose_mg_dl for each in await sender.service.stored_readings(ADA.user)]


@pytest.mark.parametrize("reason", BROKEN_RECORDS)
async def test_each_reason_quarantines_one_record_and_the_rest_of_its_page_is_stored(
    sender: ConnectedSender, reason: str
) -> None:
    good = record(HOUR_AGO + timedelta(minutes=5), 120)
    assert await sender.counts([BROKEN_RECORDS[reason], good]) == {
        "stored": 1,
        "duplicates": 0,
        "revised": 0,
        "quarantined": 1,
    }
    (reviewed,) = (await records_by_reason(sender)).values()
    assert reviewed.record.reason == reason
    assert await values(sender) == [120]
    raw = sender.service.services.quarantine_review.open_record(reviewed)
    assert msgspec.json.decode(raw) == BROKEN_RECORDS[reason]
    assert raw not in reviewed.record.sealed


async def test_records_beyond_a_full_quarantine_page_are_counted_and_the_edge_is_logged(
    sender: ConnectedSender,
) -> None:
    garbage = [record(HOUR_AGO, 1000 + number, unit="unknown") for number in range(MAX_RECORDS_PER_PAGE + 5)]
    with structlog.testing.capture_logs() as logs:
        assert (await sender.counts(garbage))["quarantined"] == MAX_RECORDS_PER_PAGE
        await sender.counts(garbage, "again")
    (log_line,) = [each for each in logs if each["action"] == "quarantine_full"]
    assert log_line["count"] == 5
    text = (await sender.service.api.get("/metrics")).text
    assert 'bg_ingest_quarantined_records_total{provider="dexcom",reason="unit_unknown"} 200.0\n' in text
    assert 'bg_ingest_quarantined_records_total{provider="dexcom",reason="no_room"} 10.0\n' in text
    stored = [reviewed async for reviewed in sender.service.services.quarantine_review.iter_records(ADA.user)]
    for reviewed in stored[:5]:
        await sender.service.services.quarantine_review.drop(reviewed)
    assert (await sender.counts(garbage, "later"))["quarantined"] == 5, "dropped records make room"


@pytest.mark.slow
async def test_a_week_of_records_without_a_time_is_stored(sender: ConnectedSender) -> None:
    """The provider changed its form of times, and an operator has not corrected it yet."""
    week = [record(HOUR_AGO, 1000 + number, systemTime="2026, in March") for number in range(7 * 288)]
    assert (await sender.counts(week))["quarantined"] == len(week)
    assert (await sender.counts(week, "again"))["quarantined"] == 0
    assert sum([1 async for _ in sender.service.services.quarantine_review.iter_records(ADA.user)]) == len(week)


async def test_case_35_a_bad_record_is_quarantined_and_the_rest_of_its_page_is_stored(ada: ConnectedUser) -> None:
    ada.service.simulator.add_fault(Damaged(every=3, ways=("no_value", "unknown_unit")))
    await anyio.sleep(3600)
    report = await ada.poll()
    assert report.result.quarantined > 0
    assert report.result.recorded > 0
    assert (await ada.poll(requested=True)).result.quarantined == 0, "the same record again is not counted"
    ada.service.simulator.clear_faults()
    await ada.poll(requested=True)
    stored = await ada.measured_values()
    assert (
        stored
        == ada.service.true_values("SandboxUser1", START - timedelta(days=1), ada.service.clock.now())[-len(stored) :]
    )


@pytest.mark.slow
async def test_bad_records_all_over_a_month_are_quarantined_in_as_many_commits_as_they_need() -> None:
    async with open_service() as service:
        ada = ConnectedUser(service)
        service.simulator.add_fault(Damaged(every=30, ways=("no_value",)))
        await service.connect("ada")
        report = await ada.poll()
        assert report.result.outcome is Outcome.READ
        assert report.result.quarantined > 250
        assert report.result.recorded > 8_000


async def test_records_of_any_size_are_quarantined_within_the_size_limit_of_an_item(ada: ConnectedUser) -> None:
    """DynamoDB's limit is 400 KB. Beyond it no record of the page could be stored."""
    huge = tuple(Unreadable("not_a_record", b"%d" % number * 5_000, START) for number in range(300))
    observer, store = Observer(), ada.services.store
    committer = Committer(store, observer, ada.service.workers)
    quarantine = Quarantine(store, committer, observer, AesGcmSealer([bytes(32)]), ada.services.clock, "test")
    connection = await ada.connection()
    counts = PollResult(Outcome.NOTHING_NEW, quarantined=MAX_RECORDS_PER_PAGE, not_kept=100)
    assert await quarantine.add(connection, huge) == counts
    assert await quarantine.add(connection, huge) == msgspec.structs.replace(counts, quarantined=0), (
        "nothing is lost silently"
    )
    pages = await ada.services.store.quarantine.read_pages(ADA.user, [START])
    assert sum(len(record.sealed) for record in pages[START].records) < 390_000
