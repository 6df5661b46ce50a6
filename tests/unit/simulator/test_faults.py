"""Faults of a page, and faults as JSON."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from bg_ingest.simulator.faults import Fault, Late, ReplyLost
from tests.harness.simulator_visitor import SetClock, Visitor
from tests.unit.simulator.conftest import Visit


@pytest.fixture
async def visitor(visit: Visit) -> Visitor:
    visitor = visit()
    await visitor.connect("SandboxUser1")
    return visitor


async def test_duplicates_and_disorder_change_no_record(visitor: Visitor, clock: SetClock) -> None:
    window = clock.at - timedelta(days=1), clock.at
    plain = await visitor.records(*window)
    await visitor.add_fault(kind="duplicated", count=1)
    doubled = Counter(record["recordId"] for record in await visitor.records(*window))
    assert set(doubled) == {record["recordId"] for record in plain}
    assert Counter(doubled.values()) == {1: len(plain) - len(plain[::3]), 2: len(plain[::3])}
    await visitor.add_fault(kind="shuffled", count=1)
    shuffled = await visitor.records(*window)
    assert shuffled != plain
    assert sorted(shuffled, key=lambda record: str(record["systemTime"]), reverse=True) == plain


async def test_only_some_records_are_damaged(visitor: Visitor, clock: SetClock) -> None:
    window = clock.at - timedelta(days=1), clock.at
    plain = await visitor.records(*window)
    await visitor.add_fault(kind="damaged", every=20)
    damaged = await visitor.records(*window)
    differing = [record for record, before in zip(damaged, plain, strict=True) if record != before]
    assert len(differing) == len(plain) // 20
    assert any(record["value"] is None for record in differing)
    assert any(record["unit"] == "unknown" for record in differing)
    assert any(record["systemTime"] == "yesterday-ish" for record in differing)
    assert any(record["trend"] == "sideways" for record in differing)
    assert any(record["transmitterId"] == "" for record in differing)


def test_every_fault_can_be_encoded_and_decoded() -> None:
    at = datetime(2026, 7, 1, tzinfo=UTC)
    for fault in (ReplyLost(count=3, until=at), Late(start=at, end=at, shown_at=at)):
        assert msgspec.json.decode(msgspec.json.encode(fault), type=Fault) == fault
