"""A record that cannot be read is kept, understood later or dropped; nothing else of its page waits for it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, cast

import anyio
import msgspec
import pytest
import structlog.testing

from bg_ingest.adapters.sealing import KeyRing
from bg_ingest.domain.readings import Origin, Reading, Unreadable
from bg_ingest.domain.segments import MOST_VERSIONS
from bg_ingest.errors import StoreUnavailable, Unknown
from bg_ingest.ports import Provider
from bg_ingest.services.quarantine import Kept, Quarantine, Retried
from bg_ingest.services.shelve import MOST_BYTES, MOST_SET_ASIDE
from tests.fakes.faults import Fault, Faulty, at
from tests.house import START
from tests.sender import record
from tests.services.test_receive import ADA, HOUR_AGO, Sender, assert_told_once, sending, tell_all

BROKEN: Mapping[str, Any] = {
    "no_time": record(HOUR_AGO, systemTime=None),
    "bad_time": record(HOUR_AGO, systemTime="yesterday"),
    "ancient": record(datetime.fromisoformat("2009-01-01T00:00:00Z")),
    "future": record(START + timedelta(hours=3)),
    "no_value": record(HOUR_AGO, None),
    "bad_value": record(HOUR_AGO, 5000),
    "unit_unknown": record(HOUR_AGO, unit=None),
    "not_a_record": ["no", "record"],
}


class Mended:
    """A provider after a fix: what has no unit is mg/dL, and what has no time is of an hour ago."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def retranslate(self, provider_account: str, raw: bytes, came_at: datetime) -> Reading | Unreadable:
        found = msgspec.json.decode(raw)
        if isinstance(found, dict):
            found["unit"] = found["unit"] or "mg/dL"
            found["systemTime"] = found["systemTime"] or f"{HOUR_AGO:%Y-%m-%dT%H:%M:%SZ}"
        return self._provider.retranslate(provider_account, msgspec.json.encode(found), came_at)


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    async with sending() as opened:
        yield opened


def quarantine(sender: Sender, *, mended: bool = True, readings: Any = None) -> Quarantine:
    services = sender.home.services
    plain = services.polling._providers["dexcom"]
    providers = {"dexcom": cast("Provider", Mended(plain)) if mended else plain}
    readings = readings or services.store.readings
    return Quarantine(readings, KeyRing([bytes(32)]), providers, services.clock, sender.home.workers, "test")


async def kept(sender: Sender) -> dict[str, Kept]:
    return {each.record.reason: each async for each in sender.home.services.quarantine.kept(ADA.user)}


async def values(sender: Sender) -> list[int]:
    return [each.reading.glucose_mg_dl for each in await sender.home.stored(ADA.user)]


@pytest.mark.parametrize("reason", BROKEN)
async def test_each_reason_sets_one_record_aside_and_the_rest_of_its_page_is_stored(
    sender: Sender, reason: str
) -> None:
    good = record(HOUR_AGO + timedelta(minutes=5), 120)
    assert await sender.counts([BROKEN[reason], good]) == {
        "stored": 1,
        "duplicates": 0,
        "revised": 0,
        "quarantined": 1,
    }
    (found,) = (await kept(sender)).values()
    assert found.record.reason == reason
    assert await values(sender) == [120]
    raw = sender.home.services.quarantine.raw(found)
    assert msgspec.json.decode(raw) == BROKEN[reason]
    assert raw not in found.record.sealed


async def test_a_reading_that_is_revised_too_often_has_its_further_values_set_aside(sender: Sender) -> None:
    for number in range(MOST_VERSIONS + 1):
        await sender.counts([record(HOUR_AGO, 100 + number)], f"msg_{number}")
    counts = await sender.counts([record(HOUR_AGO, 99), record(START, 120)], "one more")
    assert (counts["revised"], counts["stored"], counts["quarantined"]) == (0, 1, 1)
    assert await values(sender) == [100 + MOST_VERSIONS, 120]
    found = (await kept(sender))["too_many_revisions"]
    assert await quarantine(sender, mended=False).retry(found) is Retried.UNREADABLE


async def test_what_can_be_read_after_a_fix_is_stored_told_and_off_its_shelf_in_one(sender: Sender) -> None:
    await sender.counts([BROKEN["unit_unknown"], record(START, 120)])
    found = (await kept(sender))["unit_unknown"]
    assert await quarantine(sender, mended=False).retry(found) is Retried.UNREADABLE
    assert await kept(sender)
    assert await quarantine(sender).retry(found) is Retried.RELEASED
    assert not await kept(sender)
    assert await values(sender) == [110, 120]
    await tell_all(sender.home)
    assert_told_once(sender.home)
    (released,) = [each for each in sender.home.told_of(ADA.user) if each.get("origin") == Origin.QUARANTINE]
    assert [each["glucose_mg_dl"] for each in released["readings"]] == [110]
    latest = await sender.home.api.get("/api/bg/ada/latest")
    assert latest.json()["glucose_mg_dl"] == 120


async def test_a_record_without_time_is_released_into_its_segment(sender: Sender) -> None:
    await sender.counts([BROKEN["no_time"]])
    assert await quarantine(sender).retry((await kept(sender))["no_time"]) is Retried.RELEASED
    assert await values(sender) == [110]
    assert not await kept(sender)


@pytest.mark.parametrize(("stored", "ended"), [(110, Retried.KNOWN), (111, Retried.CONTRADICTED)])
async def test_what_was_stored_meanwhile_is_neither_doubled_nor_revised(
    sender: Sender, stored: int, ended: Retried
) -> None:
    await sender.counts([BROKEN["unit_unknown"]])
    await sender.counts([record(HOUR_AGO, stored)], "msg_2")
    assert await quarantine(sender).retry((await kept(sender))["unit_unknown"]) is ended
    assert await values(sender) == [stored]
    assert bool(await kept(sender)) is (ended is Retried.CONTRADICTED)


async def test_a_time_that_lay_ahead_does_not_become_right_by_waiting(sender: Sender) -> None:
    await sender.counts([BROKEN["future"]])
    await anyio.sleep(timedelta(days=1).total_seconds())
    assert await quarantine(sender).retry((await kept(sender))["future"]) is Retried.UNREADABLE


async def test_a_record_that_was_cut_says_so_and_is_never_translated(sender: Sender) -> None:
    long = record(HOUR_AGO, unit=None, note="x" * MOST_BYTES)
    await sender.counts([long])
    found = (await kept(sender))["unit_unknown"]
    assert quarantine(sender).is_cut(found)
    assert await quarantine(sender).retry(found) is Retried.CUT
    assert await values(sender) == []


async def test_a_dropped_record_does_not_come_back_and_is_gone(sender: Sender) -> None:
    page = [BROKEN["unit_unknown"], BROKEN["no_value"]]
    await sender.counts(page)
    before = (await kept(sender))["unit_unknown"]
    await quarantine(sender).drop(before)
    assert list(await kept(sender)) == ["no_value"]
    assert (await sender.counts(page, "again"))["quarantined"] == 0
    assert list(await kept(sender)) == ["no_value"]
    for act in (quarantine(sender).drop, quarantine(sender).retry):
        with pytest.raises(Unknown):
            await act(before)
    assert await values(sender) == []


async def test_a_record_is_named_by_the_beginning_of_its_name(sender: Sender) -> None:
    await sender.counts([BROKEN["unit_unknown"], BROKEN["no_value"]])
    services = sender.home.services
    for each in (await kept(sender)).values():
        assert await services.quarantine.named(ADA.user, each.record.digest.hex()[:12]) == each
    for name in ("", "none"):
        with pytest.raises(Unknown, match="begin with"):
            await services.quarantine.named(ADA.user, name)


async def test_each_record_is_counted_once_by_its_reason(sender: Sender) -> None:
    await sender.counts([BROKEN["unit_unknown"], BROKEN["no_time"]])
    await sender.counts([BROKEN["unit_unknown"], BROKEN["future"]], "again")
    await quarantine(sender).retry((await kept(sender))["unit_unknown"])
    text = (await sender.home.api.get("/metrics")).text
    for reason in ("no_time", "unit_unknown", "future"):
        assert f'bg_ingest_records_set_aside_total{{provider="dexcom",reason="{reason}"}} 1.0\n' in text


async def test_what_finds_its_shelf_full_is_counted_and_the_edge_is_logged(sender: Sender) -> None:
    rubbish = [record(HOUR_AGO, 1000 + number, unit="unknown") for number in range(MOST_SET_ASIDE + 5)]
    with structlog.testing.capture_logs() as logs:
        assert (await sender.counts(rubbish))["quarantined"] == MOST_SET_ASIDE
        await sender.counts(rubbish, "again")
    (told,) = [each for each in logs if each["action"] == "shelf_full"]
    assert told["count"] == 5
    text = (await sender.home.api.get("/metrics")).text
    assert 'bg_ingest_records_set_aside_total{provider="dexcom",reason="unit_unknown"} 200.0\n' in text
    assert 'bg_ingest_records_set_aside_total{provider="dexcom",reason="no_room"} 10.0\n' in text
    kept = [each async for each in quarantine(sender).kept(ADA.user)]
    for each in kept[:5]:
        await quarantine(sender).drop(each)
    assert (await sender.counts(rubbish, "later"))["quarantined"] == 5, "dropping makes room"


async def test_a_week_of_records_without_a_time_is_kept(sender: Sender) -> None:
    """As where a provider begins to write its times otherwise, and nobody is there to see to it before Monday."""
    week = [record(HOUR_AGO, 1000 + number, systemTime="2026, in March") for number in range(7 * 288)]
    assert (await sender.counts(week))["quarantined"] == len(week)
    assert (await sender.counts(week, "again"))["quarantined"] == 0
    assert sum([1 async for _ in quarantine(sender).kept(ADA.user)]) == len(week)


async def test_no_value_and_no_record_is_logged(sender: Sender) -> None:
    with structlog.testing.capture_logs() as logs:
        await sender.counts([record(HOUR_AGO, 271.5, unit=None), record(HOUR_AGO, 5431)])
        for each in (await kept(sender)).values():
            await quarantine(sender).retry(each)
        for each in (await kept(sender)).values():
            await quarantine(sender).drop(each)
    assert {each["action"] for each in logs} >= {"records_set_aside", "record_retried", "record_dropped"}
    assert all(value not in str(logs) for value in ("271", "5431", "recordId"))


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
@pytest.mark.parametrize("call", range(1, 4))
async def test_a_release_that_breaks_at_any_call_happens_once(sender: Sender, fault: Fault, call: int) -> None:
    await sender.counts([BROKEN["unit_unknown"]])
    found = (await kept(sender))["unit_unknown"]
    readings = sender.home.services.store.readings
    faulty = Faulty(readings, at(call, fault))
    with pytest.raises(StoreUnavailable):
        await quarantine(sender, readings=faulty).retry(found)
    with suppress(Unknown):  # it was off its shelf already
        assert await quarantine(sender).retry(found) is Retried.RELEASED
    assert await values(sender) == [110]
    assert not await kept(sender)
    await tell_all(sender.home)
    assert_told_once(sender.home)
