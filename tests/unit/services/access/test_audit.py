"""The audit records each change, and reads once an hour, under hashes; it waits while the store is unreachable."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.access import AuditAction, AuditRecord
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.windows import Window
from bg_ingest.services.access import audit
from bg_ingest.services.access.audit import AuditLog
from bg_ingest.store import Store
from tests.conftest import on
from tests.fakes.faults import Fault, FaultyCalls
from tests.harness.service import LoopClock

anyio_backend = on("asyncio", "trio")

ADA, BEN = UserId("ada"), UserId("ben")
DAY = timedelta(days=1)


class AuditWorld:
    """An audit log over a store that may fail."""

    def __init__(self, store: Store, clock: LoopClock) -> None:
        self.clock = clock
        self.fault: Fault | None = None
        self.store = FaultyCalls(store.audit, lambda _: self.fault, only={"add"})
        self.log = self.open_log()

    def open_log(self, key: bytes = bytes(32)) -> AuditLog:
        """Return the log of a further process."""
        return AuditLog(self.store, AesGcmSealer([key]), self.clock, "test", retention=365 * DAY)

    def read(self, route: str = "GET /", credential: str = "key:a", user: UserId = ADA) -> None:
        self.log.add(user, credential, route, AuditAction.READ)

    def change(self, route: str = "DELETE /", credential: str = "key:a", user: UserId = ADA) -> None:
        self.log.add(user, credential, route, AuditAction.CHANGE)

    async def records(self, user: UserId = ADA, log: AuditLog | None = None) -> Sequence[AuditRecord]:
        now = self.clock.now()
        batches = (log or self.log).records(user, Window(now - DAY, now + DAY))
        return [record async for batch in batches for record in batch]


@pytest.fixture
async def world() -> AsyncIterator[AuditWorld]:
    clock = LoopClock()
    async with open_table(None, clock) as table:
        yield AuditWorld(Store(table, clock), clock)


async def test_a_read_is_recorded_once_an_hour_and_every_change(world: AuditWorld) -> None:
    for _ in range(3):
        world.read()
        world.change()
    assert await world.log.flush() == 4
    await anyio.sleep(3600)
    world.read()
    assert await world.log.flush() == 1


async def test_changes_of_one_instant_are_separate_records_and_written_twice_stay_so(world: AuditWorld) -> None:
    for _ in range(3):
        world.change()
        world.read()
    world.fault = Fault.AFTER
    assert await world.log.flush() == 0, "written, but without an answer"
    world.fault = None
    assert await world.log.flush() == 4
    assert sorted(record.action for record in await world.records()) == ["change", "change", "change", "read"]


async def test_records_wait_while_the_store_is_unreachable_which_is_logged_once(world: AuditWorld) -> None:
    world.change()
    world.fault = Fault.BEFORE
    with capture_logs() as lines:
        for _ in range(3):
            assert await world.log.flush() == 0
        world.fault = None
        assert await world.log.flush() == 1
    assert [line["action"] for line in lines] == ["audit_delayed", "audit_recovered"]
    assert len(await world.records()) == 1


async def test_records_wait_while_no_key_opens_the_key_of_the_hashes(world: AuditWorld) -> None:
    world.change()
    assert await world.log.flush() == 1
    log = world.open_log(key=bytes([1]) * 32)
    log.add(ADA, "key:a", "GET /", AuditAction.READ)
    with capture_logs() as lines:
        assert [await log.flush() for _ in range(3)] == [0, 0, 0]
    assert [line["action"] for line in lines] == ["audit_delayed"]


async def test_records_without_room_are_counted_and_a_dropped_read_is_recorded_at_its_repetition(
    world: AuditWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_WAITING_RECORDS", 2)
    for number in range(4):
        world.read(credential=f"key:{number}")
    assert world.log.dropped == 2
    assert await world.log.flush() == 2
    world.read(credential="key:3")
    assert await world.log.flush() == 1
    assert {record.credential for record in await world.records()} == {"key:0", "key:1", "key:3"}


async def test_wait_returns_at_the_first_record(world: AuditWorld) -> None:
    waited: list[float] = []

    async def wait() -> None:
        await world.log.wait()
        waited.append(anyio.current_time())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(10)
        assert not waited
        world.change()
    assert waited == [anyio.current_time()]
    await world.log.wait()  # a record waits


async def test_users_are_hashed_alike_by_every_process_and_kept_apart(world: AuditWorld) -> None:
    world.change(credential="token:ada")
    world.change(user=BEN)
    await world.log.flush()
    (record,) = await world.records(log=world.open_log())
    kind, _, name = record.credential.partition(":")
    assert (kind, len(bytes.fromhex(name))) == ("token", 16)
    assert len(bytes.fromhex(record.user_hash)) == 16
    assert len(await world.records(BEN)) == 1
