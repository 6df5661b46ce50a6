"""Rotation of sealing keys while all other work continues."""

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from random import Random
from typing import cast

import anyio
import msgspec
import pytest

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.domain.access import AuditAction
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.grants import CLAIM_STALE_AFTER
from bg_ingest.domain.polling import PollState
from bg_ingest.domain.windows import Window
from bg_ingest.errors import SealBroken, StaleRead, StoreUnavailable
from bg_ingest.ports import Sealer
from bg_ingest.ports.table import Table
from bg_ingest.services.access.rotate_keys import KeyRotation, RotationResult
from bg_ingest.store.sealed_items import AuditKey, SealedItem, SealedItemStore
from tests.fakes.faults import Fault, FaultyCalls, StaleReads, at
from tests.harness.connected_user import ADA, ConnectedUser
from tests.harness.table_dump import read_all_items
from tests.harness.webhook_sender import envelope, record

OLD, NEW, THIRD = bytes(32), b"new" + bytes(29), b"third" + bytes(27)
BOTH, NEW_ALONE = AesGcmSealer([NEW, OLD]), AesGcmSealer([NEW])


def build_rotation(ada: ConnectedUser, sealer: Sealer = BOTH) -> KeyRotation:
    return KeyRotation(ada.services.store.sealed, sealer, "test")


async def run_rotation(ada: ConnectedUser, sealer: Sealer = BOTH) -> RotationResult:
    return await build_rotation(ada, sealer).run(lambda *_: None)


async def quarantine_records(ada: ConnectedUser) -> None:
    """Quarantine two records, and add an audit record."""
    account = (await ada.connection()).provider_account
    bad = [record(ada.service.clock.now() - timedelta(minutes=n), value) for n, value in ((1, "garbage"), (400, None))]
    answer = await ada.service.push(ADA.user, envelope(account, bad))
    assert answer.json()["quarantined"] == 2, answer.text
    ada.services.audit_log.add(ADA.user, "key:a", "GET /", AuditAction.CHANGE)
    await ada.services.audit_log.flush()


async def opened_with(ada: ConnectedUser, sealer: Sealer) -> list[bytes]:
    """Open all sealed items with these keys."""
    grant = await ada.grant()
    seen = [sealer.open(grant.sealed, grant.associated_data("test"))]
    twin, _ = ada.service.new_process(sealer=sealer)
    seen += [twin.quarantine_review.open_record(each) async for each in twin.quarantine_review.iter_records(ADA.user)]
    return seen


async def test_afterwards_everything_opens_with_the_first_key_alone(ada: ConnectedUser) -> None:
    await quarantine_records(ada)
    before = await opened_with(ada, AesGcmSealer([OLD]))
    done = await run_rotation(ada)
    assert (done.sealed, done.resealed, done.busy, done.unreadable, done.complete) == (4, 4, 0, 0, True)
    assert await opened_with(ada, AesGcmSealer([NEW])) == before
    assert len(before) == 3
    with pytest.raises(SealBroken):
        await opened_with(ada, AesGcmSealer([OLD]))
    twin, _ = ada.service.new_process(sealer=AesGcmSealer([NEW]))
    everyone = [each async for each in twin.audit_log.records(ADA.user, _around_now(ada))]
    assert len(everyone) == 1, "the audit's hashes stay the same"


def _around_now(ada: ConnectedUser) -> Window:
    now = ada.service.clock.now()
    return Window(now - timedelta(days=1), now + timedelta(days=1))


async def test_progress_is_reported_for_each_part_of_each_pass_up_to_the_last(ada: ConnectedUser) -> None:
    steps: list[tuple[int, int]] = []
    await build_rotation(ada).run(lambda *step: steps.append(step))
    parts = steps[0][1]
    assert parts > 1
    assert steps == [(part, parts) for part in range(1, parts + 1)] * 2, (
        "one pass that seals, and one that finds nothing"
    )


async def test_a_second_time_nothing_is_written(ada: ConnectedUser) -> None:
    await quarantine_records(ada)
    await run_rotation(ada)
    before = await read_all_items(ada.service.table)
    done = await run_rotation(ada)
    assert (done.sealed, done.resealed, done.complete) == (4, 0, True)
    assert await read_all_items(ada.service.table) == before


async def test_a_disconnected_persons_records_are_found_too(ada: ConnectedUser) -> None:
    await quarantine_records(ada)
    await ada.services.connections.disconnect(ADA)
    done = await run_rotation(ada)
    assert (done.sealed, done.complete) == (3, True)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_stopped_anywhere_the_next_one_does_the_rest(ada: ConnectedUser, number: int) -> None:
    await quarantine_records(ada)
    stopped = FaultyCalls(ada.services.store.sealed, at(number, Fault.AFTER), only={"replace"})
    with pytest.raises(StoreUnavailable):
        await KeyRotation(stopped, BOTH, "test").run(lambda *_: None)
    done = await run_rotation(ada)
    assert done.resealed == 4 - number
    assert done.complete


async def test_data_that_no_key_opens_is_reported_and_nothing_is_lost(ada: ConnectedUser) -> None:
    await quarantine_records(ada)
    before = await read_all_items(ada.service.table)
    steps: list[tuple[int, int]] = []
    done = await build_rotation(ada, AesGcmSealer([NEW, THIRD])).run(lambda *step: steps.append(step))
    assert (done.resealed, done.unreadable, done.complete) == (0, 4, False)
    assert len(steps) == steps[0][1], "one pass, because another one would find the same"
    assert await read_all_items(ada.service.table) == before


async def test_a_grant_that_is_being_refreshed_is_left_until_it_is_stored(ada: ConnectedUser) -> None:
    grant = await ada.grant()
    await ada.services.store.grants.claim(grant, "somebody")
    claimed = msgspec.structs.replace(grant, claim="somebody")
    resealed = msgspec.structs.replace(grant, sealed=b"other")
    with pytest.raises(StaleRead):
        await ada.services.store.sealed.replace(grant, resealed)
    done: list[RotationResult] = []

    async def rotate() -> None:
        done.append(await run_rotation(ada))

    async with anyio.create_task_group() as group:
        group.start_soon(rotate)
        await anyio.sleep(5)
        assert (await ada.grant()) == claimed
        await ada.services.store.grants.store(msgspec.structs.replace(grant, version=grant.version + 1))
    assert done[0].complete
    assert BOTH.is_current((await ada.grant()).sealed)
    assert (await ada.grant()).version == grant.version + 1


async def test_a_claim_of_a_dead_process_stops_no_rotation(ada: ConnectedUser) -> None:
    await ada.services.store.grants.claim(await ada.grant(), "dead")
    started_at = anyio.current_time()
    done = await run_rotation(ada)
    assert done.complete
    waited = anyio.current_time() - started_at
    assert waited < 2 * CLAIM_STALE_AFTER.total_seconds(), "no wait before the pass that finds nothing"
    grant = await ada.grant()
    assert (grant.claim, BOTH.is_current(grant.sealed)) == ("dead", True)


@pytest.mark.slow
async def test_rotation_while_polls_and_refreshes_run_loses_no_grant(ada: ConnectedUser) -> None:
    random = Random(6)
    table = cast("Table", StaleReads(ada.service.table, random))
    twin, _ = ada.service.new_process(table, AesGcmSealer([NEW, THIRD, OLD]))
    key_rings = AesGcmSealer([THIRD, NEW, OLD]), AesGcmSealer([NEW, THIRD, OLD])
    outcomes: list[str] = []

    async def poll() -> None:
        for _ in range(3):
            await anyio.sleep(random.random() * 30)
            report = await twin.poller.poll(ADA, 1, PollState(), requested=True)
            outcomes.append(report.result.outcome)

    async def rotate() -> None:
        for key_ring in key_rings * 3:
            await anyio.sleep(random.random() * 10)
            await KeyRotation(twin.store.sealed, key_ring, "test").run(lambda *_: None)

    for _ in range(6):
        await ada.sleep_until_expired()  # so that the first poll refreshes
        async with anyio.create_task_group() as group:
            group.start_soon(poll)
            group.start_soon(rotate)
    assert set(outcomes) <= {"read", "nothing_new", "grant_busy"}, outcomes
    assert ada.rotations >= 6
    assert ada.service.simulator.calls["token", 400] == 0
    assert (await ada.connection()).state is ConnectionState.ACTIVE
    assert (await run_rotation(ada, key_rings[1])).complete
    alone, _ = ada.service.new_process(sealer=AesGcmSealer([NEW]))
    report = await alone.poller.poll(ADA, 1, PollState(), requested=True)
    assert report.result.outcome in {"read", "nothing_new"}


class ItemsReadEarlier:
    """Sealed items as of the first read; replacements go to the store."""

    def __init__(self, store: SealedItemStore, items: Sequence[SealedItem]) -> None:
        self._store = store
        self._items = items

    async def iter_items(self, part: int, _: int) -> AsyncGenerator[Sequence[SealedItem]]:
        if part == 0:
            yield self._items

    async def replace(self, before: SealedItem, after: SealedItem) -> None:
        await self._store.replace(before, after)


async def test_rotation_of_items_read_before_an_erasure_stores_nothing(ada: ConnectedUser) -> None:
    await quarantine_records(ada)
    sealed = ada.services.store.sealed
    items = [item async for page in sealed.iter_items(0, 1) for item in page if not isinstance(item, AuditKey)]
    await ada.services.eraser.erase(ADA.user)
    before = await read_all_items(ada.service.table)
    read_earlier = cast("SealedItemStore", ItemsReadEarlier(sealed, items))
    result = await KeyRotation(read_earlier, BOTH, "test").run(lambda *_: None)
    assert (result.resealed, result.busy) == (0, len(items))
    assert len(items) > 1
    assert await read_all_items(ada.service.table) == before


async def test_a_record_that_no_key_opens_keeps_the_others_of_its_page_from_nothing(ada: ConnectedUser) -> None:
    account = (await ada.connection()).provider_account
    bad = [record(ada.service.clock.now() - timedelta(minutes=n), "garbage") for n in (1, 2, 3)]
    await ada.service.push(ADA.user, envelope(account, bad))
    review = ada.services.quarantine_review
    lost, *_ = [each.record.sealed async for each in review.iter_records(ADA.user)]

    class WithoutOne(AesGcmSealer):
        def open(self, sealed: bytes, associated: bytes) -> bytes:
            if sealed == lost:
                raise SealBroken
            return super().open(sealed, associated)

    done = await run_rotation(ada, WithoutOne([NEW, OLD]))
    assert (done.resealed, done.unreadable, done.complete) == (3, 1, False)
    current = [NEW_ALONE.is_current(each.record.sealed) async for each in review.iter_records(ADA.user)]
    assert sorted(current) == [False, True, True]
