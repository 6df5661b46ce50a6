"""Faults: what a client sees of each, whom they meet, and when they are over."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from bg_ingest.simulator import TrueReading, UnknownUser
from bg_ingest.simulator.faults import Fault, Late, ReplyLost, Revised, Slow, Throttled
from tests.harness.simulator_visitor import SetClock, Visitor
from tests.unit.simulator.conftest import Visit


@pytest.fixture
async def visitor(visit: Visit) -> Visitor:
    visitor = visit()
    await visitor.connect("SandboxUser1")
    return visitor


async def test_throttled_with_and_without_retry_after(visitor: Visitor, clock: SetClock) -> None:
    await visitor.add_fault(kind="throttled", count=1)
    plain = await visitor.get("dataRange")
    assert (plain.status_code, "retry-after" in plain.headers) == (429, False)
    await visitor.add_fault(kind="throttled", count=1, retry_after=7)
    assert (await visitor.get("dataRange")).headers["retry-after"] == "7"
    await visitor.add_fault(kind="throttled", count=1, retry_after=90, as_date=True)
    dated = (await visitor.get("dataRange")).headers["retry-after"]
    assert parsedate_to_datetime(dated) == clock.at + timedelta(seconds=90)
    assert (await visitor.get("dataRange")).status_code == 200


@pytest.mark.parametrize(("fault", "status"), [({"kind": "failed"}, 503), ({"kind": "failed", "status": 502}, 502)])
async def test_a_failed_call_brings_an_error_page(visitor: Visitor, fault: dict[str, Any], status: int) -> None:
    await visitor.add_fault(**fault)
    answer = await visitor.get("dataRange")
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")


async def test_a_web_page_can_come_instead_of_readings(visitor: Visitor) -> None:
    await visitor.add_fault(kind="html")
    answer = await visitor.get("dataRange")
    assert answer.status_code == 200
    assert answer.text.startswith("<!doctype html>")


async def test_a_slow_call_is_carried_out_late(visitor: Visitor) -> None:
    visitor.simulator.add_fault(Slow(seconds=45))
    began = anyio.current_time()
    assert (await visitor.get("dataRange")).status_code == 200
    assert anyio.current_time() - began == pytest.approx(45)


@pytest.mark.parametrize("kind", ["reset", "reply_lost"])
async def test_a_broken_connection_is_a_transport_error_to_the_client(visitor: Visitor, kind: str) -> None:
    await visitor.add_fault(kind=kind, count=1)
    with pytest.raises(httpx.TransportError):
        await visitor.get("dataRange")
    assert (await visitor.get("dataRange")).status_code == 200


async def test_a_truncated_body_is_no_json(visitor: Visitor) -> None:
    whole = (await visitor.get("dataRange")).content
    await visitor.add_fault(kind="truncated")
    cut = (await visitor.get("dataRange")).content
    assert cut == whole[: len(whole) // 2]


@pytest.mark.parametrize("kind", ["reset", "failed", "throttled", "html"])
async def test_a_token_call_that_was_not_carried_out_spends_nothing(visitor: Visitor, kind: str) -> None:
    await visitor.add_fault(kind=kind, endpoint="token", count=1)
    try:
        await visitor.token(grant_type="refresh_token", refresh_token=visitor.refresh_token)
    except httpx.TransportError:
        assert kind == "reset"
    assert (await visitor.rotate()).status_code == 200


@pytest.mark.parametrize("kind", ["reply_lost", "truncated"])
async def test_a_token_reply_that_was_lost_spends_the_token_and_says_so(visitor: Visitor, kind: str) -> None:
    await visitor.add_fault(kind=kind, endpoint="token", count=1)
    try:
        answer = await visitor.token(grant_type="refresh_token", refresh_token=visitor.refresh_token)
        assert kind == "truncated"
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(answer.content)
    except httpx.TransportError:
        assert kind == "reply_lost"
    assert [rotated.answered for rotated in visitor.simulator.grants.rotations] == [False]
    assert (await visitor.rotate()).json() == {"error": "invalid_grant"}


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


async def test_damaged_records_are_a_few_among_good_ones(visitor: Visitor, clock: SetClock) -> None:
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


async def test_late_readings_come_when_their_time_has_come(visitor: Visitor, clock: SetClock) -> None:
    start, end = clock.at - timedelta(hours=3), clock.at - timedelta(hours=1)
    window = clock.at - timedelta(hours=6), clock.at - timedelta(minutes=5)
    everything = await visitor.records(*window)
    visitor.simulator.add_fault(
        Late(user="SandboxUser1", start=start, end=end, shown_at=clock.at + timedelta(minutes=30))
    )
    shown = await visitor.records(*window)
    held = [record for record in everything if start <= datetime.fromisoformat(record["systemTime"]) < end]
    assert held
    assert shown == [record for record in everything if record not in held]
    clock.pass_time(minutes=30)
    assert await visitor.records(*window) == everything


async def test_the_extent_ends_before_what_is_late(visitor: Visitor, clock: SetClock) -> None:
    start = clock.at - timedelta(days=2)
    visitor.simulator.add_fault(Late(start=start, end=clock.at, shown_at=clock.at + timedelta(days=1)))
    end = (await visitor.get("dataRange")).json()["egvs"]["end"]["systemTime"]
    assert start - timedelta(hours=3) < datetime.fromisoformat(end) < start


async def test_revised_readings_keep_their_ids_and_change_their_values(visitor: Visitor, clock: SetClock) -> None:
    start, end = clock.at - timedelta(hours=3), clock.at - timedelta(hours=1)
    at = clock.at + timedelta(minutes=10)
    visitor.simulator.add_fault(Revised(user="SandboxUser1", start=start, end=end, revised_at=at, by=8))
    before = await visitor.records(start, end - timedelta(seconds=1))
    clock.at = at
    after = await visitor.records(start, end - timedelta(seconds=1))
    assert [(record["recordId"], record["value"] + 8) for record in before] == [
        (record["recordId"], record["value"]) for record in after
    ]
    assert before


async def test_the_truth_ends_with_everything_come_and_revised(visitor: Visitor, clock: SetClock) -> None:
    simulator = visitor.simulator
    start, end, never = clock.at - timedelta(hours=2), clock.at, clock.at + timedelta(days=900)

    def values(readings: Any) -> list[int]:
        return [reading.glucose_mg_dl for reading in readings if isinstance(reading, TrueReading)]

    plain = values(simulator.truth("SandboxUser1", start, end))
    simulator.add_fault(Late(start=start, end=end, shown_at=never))
    simulator.add_fault(Revised(start=start, end=end + timedelta(seconds=1), revised_at=never, by=5))
    assert values(simulator.truth("SandboxUser1", start, end)) == [value + 5 for value in plain]
    assert values(simulator.truth("SandboxUser1", start, end, clock.at)) == []


async def test_a_fault_meets_its_user_and_endpoint_only(visitor: Visitor, visit: Visit) -> None:
    await visitor.add_fault(kind="failed", user="SandboxUser1", endpoint="dataRange")
    assert (await visitor.get("dataRange")).status_code == 503
    assert (await visitor.get("egvs")).status_code == 400
    assert (await visitor.rotate()).status_code == 200
    await visitor.connect("SandboxUser2")
    assert (await visitor.get("dataRange")).status_code == 200


async def test_a_fault_of_a_user_meets_the_exchange_of_the_code(visitor: Visitor) -> None:
    await visitor.add_fault(kind="failed", user="SandboxUser3", endpoint="token")
    assert (await visitor.exchange(await visitor.code("SandboxUser2"))).status_code == 200
    assert (await visitor.exchange(await visitor.code("SandboxUser3"))).status_code == 503


async def test_a_fault_ends_by_count_by_time_or_by_hand(visitor: Visitor, clock: SetClock) -> None:
    async def status() -> int:
        return (await visitor.get("dataRange")).status_code

    await visitor.add_fault(kind="failed", count=2)
    assert [await status() for _ in range(3)] == [503, 503, 200]
    await visitor.add_fault(kind="failed", until=(clock.at + timedelta(minutes=1)).isoformat())
    assert await status() == 503
    clock.pass_time(minutes=1)
    assert await status() == 200
    number = await visitor.add_fault(kind="failed")
    assert await status() == 503
    assert (await visitor.http.delete(f"/admin/faults/{number}")).status_code == 204
    assert await status() == 200
    assert (await visitor.http.delete(f"/admin/faults/{number}")).status_code == 404
    await visitor.add_fault(kind="html")
    await visitor.add_fault(kind="failed")
    assert (await visitor.http.delete("/admin/faults")).status_code == 204
    assert (await visitor.get("dataRange")).json()["recordType"] == "dataRange"


async def test_of_two_faults_that_answer_instead_the_second_waits(visitor: Visitor) -> None:
    await visitor.add_fault(kind="throttled", count=1)
    await visitor.add_fault(kind="failed", count=1)
    assert [(await visitor.get("dataRange")).status_code for _ in range(3)] == [429, 503, 200]


async def test_a_probable_fault_meets_some_calls_and_the_same_ones_each_time(visit: Visit) -> None:
    runs = []
    for _ in range(2):
        visitor = visit()
        await visitor.connect()
        visitor.simulator.add_fault(Throttled(probability=0.3))
        runs.append([(await visitor.get("dataRange")).status_code for _ in range(60)])
    assert runs[0] == runs[1]
    assert 8 <= runs[0].count(429) <= 30


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "flood"},
        {"kind": "slow"},
        {"kind": "failed", "status": 200},
        {"kind": "failed", "user": "Nobody"},
        {"kind": "failed", "howmany": 3},
        {"kind": "failed", "until": "2026-07-01T12:00:00"},
        {"kind": "late", "start": "2026-07-01T12:00:00Z"},
    ],
)
async def test_a_fault_we_cannot_read_is_refused(visitor: Visitor, fault: dict[str, Any]) -> None:
    answer = await visitor.http.post("/admin/faults", json=fault)
    assert answer.status_code == 400
    assert (await visitor.http.get("/admin/state")).json()["faults"] == []


def test_every_fault_survives_json() -> None:
    at = datetime(2026, 7, 1, tzinfo=UTC)
    for fault in (ReplyLost(count=3, until=at), Late(start=at, end=at, shown_at=at)):
        assert msgspec.json.decode(msgspec.json.encode(fault), type=Fault) == fault


async def test_faults_of_nobody_are_refused_in_python_too(visitor: Visitor) -> None:
    with pytest.raises(UnknownUser, match="SandboxUser7"):
        visitor.simulator.add_fault(ReplyLost(user="Nobody"))
