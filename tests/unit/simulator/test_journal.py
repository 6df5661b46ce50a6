"""Journal: a killed simulator continues with its state."""

from datetime import timedelta
from pathlib import Path

import httpx
import msgspec
import pytest

from bg_ingest.simulator.faults import Failed, Reset
from bg_ingest.simulator.journal import Journal, JournalUnreadable, token_hash
from tests.harness.simulator_visitor import SetClock, Visitor
from tests.unit.simulator.conftest import Visit


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "simulator.jsonl"


def carry_over(before: Visitor, after: Visitor) -> Visitor:
    after.access, after.refresh_token = before.access, before.refresh_token
    return after


def lines(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines(keepends=True)


def tear(journal: Path) -> None:
    """Cut off the last line, as a kill during its write does."""
    *whole, last = lines(journal)
    journal.write_bytes(b"".join(whole) + last[: len(last) // 2])


async def test_a_restart_keeps_grants_and_spent_tokens_spent(visit: Visit, journal: Path) -> None:
    visitor = visit(journal=journal)
    await visitor.connect("SandboxUser2")
    spent = visitor.refresh_token
    await visitor.rotate()
    again = carry_over(visitor, visit(journal=journal))
    assert (await again.get("dataRange")).status_code == 200
    assert (await again.token(grant_type="refresh_token", refresh_token=spent)).status_code == 400
    assert (await again.rotate()).status_code == 200
    assert len(again.simulator.grants.rotations) == 2


async def test_a_restart_keeps_revocations_and_new_grants_do_not_revive_old_ones(visit: Visit, journal: Path) -> None:
    visitor = visit(journal=journal)
    await visitor.connect("SandboxUser2")
    visitor.simulator.revoke("SandboxUser2")
    again = carry_over(visitor, visit(journal=journal))
    newcomer = visit(journal=journal)
    await newcomer.connect("SandboxUser2")
    assert (await again.get("dataRange")).status_code == 401
    assert newcomer.refresh_token != visitor.refresh_token


async def test_a_restart_keeps_faults_and_their_remaining_counts(visit: Visit, journal: Path) -> None:
    visitor = visit(journal=journal)
    await visitor.connect()
    removed = visitor.simulator.add_fault(Reset())
    visitor.simulator.faults.remove(removed)
    visitor.simulator.add_fault(Failed(count=2))
    assert (await visitor.get("dataRange")).status_code == 503
    again = carry_over(visitor, visit(journal=journal))
    assert [(await again.get("dataRange")).status_code for _ in range(2)] == [503, 200]


async def test_a_restart_keeps_the_first_reading(visit: Visit, journal: Path, clock: SetClock) -> None:
    visitor = visit(journal=journal, days_back=5)
    await visitor.connect()
    before = (await visitor.get("dataRange")).json()["egvs"]["start"]
    clock.pass_time(hours=1)
    again = carry_over(visitor, visit(journal=journal, days_back=5))
    assert (await again.get("dataRange")).json()["egvs"]["start"] == before


async def test_a_rotation_is_on_disk_before_it_is_answered(visit: Visit, journal: Path) -> None:
    visitor = visit(journal=journal)
    await visitor.connect("SandboxUser4")
    old = visitor.refresh_token
    await visitor.add_fault(kind="reply_lost", endpoint="token", count=1)
    with pytest.raises(httpx.ReadError):
        await visitor.rotate()
    rotated = msgspec.json.decode(lines(journal)[-1])
    assert rotated["event"] == "rotated"
    assert (rotated["user"], rotated["old"], rotated["answered"]) == ("SandboxUser4", token_hash(old), False)
    text = b"".join(lines(journal))
    assert old.encode() not in text
    assert visitor.access.encode() not in text


async def test_a_line_cut_off_by_a_kill_has_no_effect(visit: Visit, journal: Path) -> None:
    visitor = visit(journal=journal)
    await visitor.connect()
    kept = visitor.refresh_token
    whole = lines(journal)
    await visitor.rotate()
    tear(journal)
    again = visit(journal=journal)
    again.refresh_token = kept
    assert (await again.rotate()).status_code == 200
    assert len(lines(journal)) == len(whole) + 1
    third = carry_over(again, visit(journal=journal))
    assert (await third.rotate()).status_code == 200


async def test_a_user_missing_after_a_restart_has_no_grant(visit: Visit, journal: Path) -> None:
    visitor = visit(journal=journal)
    await visitor.connect("SandboxUser7")
    again = carry_over(visitor, visit(journal=journal, users=3))
    assert (await again.get("dataRange")).status_code == 401
    assert (await again.rotate()).json() == {"error": "invalid_grant"}


async def test_without_a_journal_a_restart_keeps_nothing(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    await visitor.connect()
    clock.pass_time(seconds=timedelta(minutes=1).total_seconds())
    assert (await carry_over(visitor, visit()).get("dataRange")).status_code == 401


def test_a_line_that_is_no_event_is_named(journal: Path) -> None:
    journal.write_bytes(b'{"type":"began","at":"2026-03-01T00:00:00Z"}\n{"type":\n')
    with pytest.raises(JournalUnreadable, match=r"simulator\.jsonl, line 1, is no event of a simulator: .*\.$"):
        list(Journal(journal).replay())
