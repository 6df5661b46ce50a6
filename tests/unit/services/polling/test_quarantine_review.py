"""Unreadable records are kept, decoded later or dropped; the rest of their page does not wait."""

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import anyio
import msgspec
import pytest
import structlog.testing

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.domain import segment_size
from bg_ingest.domain.readings import Origin, Reading, Unreadable
from bg_ingest.domain.segments import MAX_VERSIONS
from bg_ingest.errors import NotFound, StoreUnavailable
from bg_ingest.ports import Provider
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.polling.quarantine import MAX_RECORD_BYTES
from bg_ingest.services.polling.quarantine_review import QuarantineReview, RetryResult, ReviewedRecord
from bg_ingest.store import Store
from tests.fakes.faults import Fault, FaultyCalls, at
from tests.harness.service import START
from tests.harness.webhook_sender import record
from tests.unit.services.polling.test_webhooks import (
    ADA,
    HOUR_AGO,
    ConnectedSender,
    assert_published_once,
    open_sender,
    publish_all,
)

BROKEN_RECORDS: Mapping[str, Any] = {
    "no_time": record(HOUR_AGO, systemTime=None),
    "bad_time": record(HOUR_AGO, systemTime="yesterday"),
    "ancient": record(datetime.fromisoformat("2009-01-01T00:00:00Z")),
    "future": record(START + timedelta(hours=3)),
    "no_value": record(HOUR_AGO, None),
    "bad_value": record(HOUR_AGO, 5000),
    "unit_unknown": record(HOUR_AGO, unit=None),
    "not_a_record": ["no", "record"],
}


class FixedProvider:
    """Provider after a fix: a record without a unit is in mg/dL, and one without a time is an hour old."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def translate_record(self, provider_account: str, raw: bytes, received_at: datetime) -> Reading | Unreadable:
        found = msgspec.json.decode(raw)
        if isinstance(found, dict):
            found["unit"] = found["unit"] or "mg/dL"
            found["systemTime"] = found["systemTime"] or f"{HOUR_AGO:%Y-%m-%dT%H:%M:%SZ}"
        return self._provider.translate_record(provider_account, msgspec.json.encode(found), received_at)


@pytest.fixture
async def sender() -> AsyncIterator[ConnectedSender]:
    async with open_sender() as opened:
        yield opened


def quarantine(sender: ConnectedSender, *, mended: bool = True, store: Store | None = None) -> QuarantineReview:
    services = sender.service.services
    plain = cast("Provider", sender.service.provider)
    providers = {"dexcom": cast("Provider", FixedProvider(plain)) if mended else plain}
    store = store or services.store
    committer = Committer(store, services.observer, sender.service.workers)
    return QuarantineReview(store, committer, AesGcmSealer([bytes(32)]), providers, services.clock, "test")


async def records_by_reason(sender: ConnectedSender) -> dict[str, ReviewedRecord]:
    return {each.record.reason: each async for each in sender.service.services.quarantine_review.iter_records(ADA.user)}


async def values(sender: ConnectedSender) -> list[int]:
    return [each.reading.glucose_mg_dl for each in await sender.service.stored_readings(ADA.user)]


async def test_a_reading_that_is_revised_too_often_has_its_further_values_quarantined(sender: ConnectedSender) -> None:
    for number in range(MAX_VERSIONS + 1):
        await sender.counts([record(HOUR_AGO, 100 + number)], f"msg_{number}")
    counts = await sender.counts([record(HOUR_AGO, 99), record(START, 120)], "one more")
    assert (counts["revised"], counts["stored"], counts["quarantined"]) == (0, 1, 1)
    assert await values(sender) == [100 + MAX_VERSIONS, 120]
    found = (await records_by_reason(sender))["too_many_revisions"]
    assert await quarantine(sender, mended=False).retry(found) is RetryResult.UNREADABLE


async def test_a_record_that_is_readable_after_a_fix_is_stored_published_and_released_in_one_commit(
    sender: ConnectedSender,
) -> None:
    await sender.counts([BROKEN_RECORDS["unit_unknown"], record(START, 120)])
    found = (await records_by_reason(sender))["unit_unknown"]
    assert await quarantine(sender, mended=False).retry(found) is RetryResult.UNREADABLE
    assert await records_by_reason(sender)
    assert await quarantine(sender).retry(found) is RetryResult.RELEASED
    assert not await records_by_reason(sender)
    assert await values(sender) == [110, 120]
    await publish_all(sender.service)
    assert_published_once(sender.service)
    (released,) = [each for each in sender.service.event_data_of(ADA.user) if each.get("origin") == Origin.QUARANTINE]
    assert [each["glucose_mg_dl"] for each in released["readings"]] == [110]
    latest = await sender.service.api.get("/api/bg/ada/latest")
    assert latest.json()["glucose_mg_dl"] == 120


async def test_a_record_without_room_in_its_segment_stays(
    sender: ConnectedSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sender.counts([BROKEN_RECORDS["unit_unknown"]])
    found = (await records_by_reason(sender))["unit_unknown"]
    with monkeypatch.context() as full:
        full.setattr(segment_size, "MAX_UNCHECKED", 0)
        full.setattr(segment_size, "MAX_SEGMENT_BYTES", 0)
        assert await quarantine(sender).retry(found) is RetryResult.NO_ROOM
    assert await quarantine(sender).retry(found) is RetryResult.RELEASED


async def test_a_record_without_time_is_released_into_its_segment(sender: ConnectedSender) -> None:
    await sender.counts([BROKEN_RECORDS["no_time"]])
    assert await quarantine(sender).retry((await records_by_reason(sender))["no_time"]) is RetryResult.RELEASED
    assert await values(sender) == [110]
    assert not await records_by_reason(sender)


@pytest.mark.parametrize(("stored", "ended"), [(110, RetryResult.ALREADY_STORED), (111, RetryResult.CONTRADICTED)])
async def test_what_was_stored_meanwhile_is_neither_doubled_nor_revised(
    sender: ConnectedSender, stored: int, ended: RetryResult
) -> None:
    await sender.counts([BROKEN_RECORDS["unit_unknown"]])
    await sender.counts([record(HOUR_AGO, stored)], "msg_2")
    assert await quarantine(sender).retry((await records_by_reason(sender))["unit_unknown"]) is ended
    assert await values(sender) == [stored]
    assert bool(await records_by_reason(sender)) is (ended is RetryResult.CONTRADICTED)


async def test_a_time_that_lay_ahead_does_not_become_right_by_waiting(sender: ConnectedSender) -> None:
    await sender.counts([BROKEN_RECORDS["future"]])
    await anyio.sleep(timedelta(days=1).total_seconds())
    assert await quarantine(sender).retry((await records_by_reason(sender))["future"]) is RetryResult.UNREADABLE


async def test_a_record_that_was_cut_says_so_and_is_never_translated(sender: ConnectedSender) -> None:
    long = record(HOUR_AGO, unit=None, note="x" * MAX_RECORD_BYTES)
    await sender.counts([long])
    found = (await records_by_reason(sender))["unit_unknown"]
    assert quarantine(sender).is_truncated(found)
    assert await quarantine(sender).retry(found) is RetryResult.TRUNCATED
    assert await values(sender) == []


async def test_a_dropped_record_does_not_come_back_and_is_gone(sender: ConnectedSender) -> None:
    page = [BROKEN_RECORDS["unit_unknown"], BROKEN_RECORDS["no_value"]]
    await sender.counts(page)
    before = (await records_by_reason(sender))["unit_unknown"]
    await quarantine(sender).drop(before)
    assert list(await records_by_reason(sender)) == ["no_value"]
    assert (await sender.counts(page, "again"))["quarantined"] == 0
    assert list(await records_by_reason(sender)) == ["no_value"]
    for act in (quarantine(sender).drop, quarantine(sender).retry):
        with pytest.raises(NotFound):
            await act(before)
    assert await values(sender) == []


async def test_a_record_is_named_by_the_beginning_of_its_name(sender: ConnectedSender) -> None:
    await sender.counts([BROKEN_RECORDS["unit_unknown"], BROKEN_RECORDS["no_value"]])
    services = sender.service.services
    for each in (await records_by_reason(sender)).values():
        assert await services.quarantine_review.find(ADA.user, each.record.digest.hex()[:12]) == each
    for name in ("", "none"):
        with pytest.raises(NotFound, match="begin with"):
            await services.quarantine_review.find(ADA.user, name)


async def test_each_record_is_counted_once_by_its_reason(sender: ConnectedSender) -> None:
    await sender.counts([BROKEN_RECORDS["unit_unknown"], BROKEN_RECORDS["no_time"]])
    await sender.counts([BROKEN_RECORDS["unit_unknown"], BROKEN_RECORDS["future"]], "again")
    await quarantine(sender).retry((await records_by_reason(sender))["unit_unknown"])
    text = (await sender.service.api.get("/metrics")).text
    for reason in ("no_time", "unit_unknown", "future"):
        assert f'bg_ingest_quarantined_records_total{{provider="dexcom",reason="{reason}"}} 1.0\n' in text


async def test_no_value_and_no_record_is_logged(sender: ConnectedSender) -> None:
    with structlog.testing.capture_logs() as logs:
        await sender.counts([record(HOUR_AGO, 271.5, unit=None), record(HOUR_AGO, 5431)])
        for each in (await records_by_reason(sender)).values():
            await quarantine(sender).retry(each)
        for each in (await records_by_reason(sender)).values():
            await quarantine(sender).drop(each)
    assert {each["action"] for each in logs} >= {"records_quarantined", "record_retried", "record_dropped"}
    assert all(value not in str(logs) for value in ("271", "5431", "recordId"))


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
@pytest.mark.parametrize("call", range(1, 4))
async def test_a_release_that_breaks_at_any_call_happens_once(sender: ConnectedSender, fault: Fault, call: int) -> None:
    await sender.counts([BROKEN_RECORDS["unit_unknown"]])
    found = (await records_by_reason(sender))["unit_unknown"]
    faulty = FaultyCalls(sender.service.table, at(call, fault))
    with pytest.raises(StoreUnavailable):
        await quarantine(sender, store=Store(faulty, sender.service.clock)).retry(found)
    with suppress(NotFound):  # it had left the quarantine already
        assert await quarantine(sender).retry(found) is RetryResult.RELEASED
    assert await values(sender) == [110]
    assert not await records_by_reason(sender)
    await publish_all(sender.service)
    assert_published_once(sender.service)


async def test_a_record_that_no_key_opens_is_a_result_and_stays(sender: ConnectedSender) -> None:
    await sender.counts([BROKEN_RECORDS["unit_unknown"]])
    (found,) = (await records_by_reason(sender)).values()
    review = replace(quarantine(sender), sealer=AesGcmSealer([bytes([1] * 32)]))
    assert await review.retry(found) is RetryResult.NO_KEY
    assert list(await records_by_reason(sender)) == ["unit_unknown"]
