"""Sealing everything anew, while everything goes on."""

from datetime import timedelta
from random import Random
from typing import cast

import anyio
import msgspec
import pytest

from bg_ingest.adapters.sealing import KeyRing
from bg_ingest.adapters.table.protocol import Table
from bg_ingest.domain.audit import Action
from bg_ingest.domain.connections import State
from bg_ingest.domain.turns import Plan
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Outdated, StoreUnavailable, Unsealable
from bg_ingest.ports import AuditKey, Sealer
from bg_ingest.services.rotate import Rotated, Rotation
from tests.fakes.faults import Fault, Faulty, Stale, at
from tests.home import ADA, Home
from tests.sender import envelope, record
from tests.whole_table import everything

OLD, NEW, THIRD = bytes(32), b"new" + bytes(29), b"third" + bytes(27)
BOTH = KeyRing([NEW, OLD])


def rotation(home: Home, sealer: Sealer = BOTH) -> Rotation:
    return Rotation(home.services.store.sealed, sealer, "test")


async def rotated(home: Home, sealer: Sealer = BOTH) -> Rotated:
    return await rotation(home, sealer).run(lambda *_: None)


async def set_aside(home: Home) -> None:
    """Have two records set aside, and something on the audit's record."""
    account = (await home.connection()).provider_account
    bad = [record(home.house.clock.now() - timedelta(minutes=n), value) for n, value in ((1, "garbage"), (400, None))]
    answer = await home.house.push(ADA.user, envelope(account, bad))
    assert answer.json()["quarantined"] == 2, answer.text
    home.services.auditing.note(ADA.user, "key:a", "GET /", Action.CHANGE)
    await home.services.auditing.write()


async def opened_with(home: Home, sealer: Sealer) -> list[bytes]:
    """Open all that is sealed with these keys."""
    grant = await home.grant()
    seen = [sealer.open(grant.sealed, grant.associated_data("test"))]
    twin, _ = home.house.twin(sealer=sealer)
    seen += [twin.quarantine.raw(each) async for each in twin.quarantine.kept(ADA.user)]
    return seen


async def test_afterwards_everything_opens_with_the_first_key_alone(home: Home) -> None:
    await set_aside(home)
    before = await opened_with(home, KeyRing([OLD]))
    done = await rotated(home)
    assert (done.sealed, done.resealed, done.busy, done.unopened, done.complete) == (4, 4, 0, 0, True)
    assert await opened_with(home, KeyRing([NEW])) == before
    assert len(before) == 3
    with pytest.raises(Unsealable):
        await opened_with(home, KeyRing([OLD]))
    twin, _ = home.house.twin(sealer=KeyRing([NEW]))
    everyone = [each async for each in twin.auditing.of(ADA.user, _ever(home))]
    assert len(everyone) == 1, "the audit's hashes stay the same"


def _ever(home: Home) -> Window:
    now = home.house.clock.now()
    return Window(now - timedelta(days=1), now + timedelta(days=1))


async def test_whoever_waits_hears_of_each_part_of_each_pass_up_to_the_last(home: Home) -> None:
    steps: list[tuple[int, int]] = []
    await rotation(home).run(lambda *step: steps.append(step))
    parts = steps[0][1]
    assert parts > 1
    assert steps == [(part, parts) for part in range(1, parts + 1)] * 2, (
        "one pass that seals, and one that finds nothing"
    )


async def test_a_second_time_nothing_is_written(home: Home) -> None:
    await set_aside(home)
    await rotated(home)
    before = await everything(home.house.table)
    done = await rotated(home)
    assert (done.sealed, done.resealed, done.complete) == (4, 0, True)
    assert await everything(home.house.table) == before


async def test_a_disconnected_persons_records_are_found_too(home: Home) -> None:
    await set_aside(home)
    await home.services.steering.disconnect(ADA)
    done = await rotated(home)
    assert (done.sealed, done.complete) == (3, True)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_stopped_anywhere_the_next_one_does_the_rest(home: Home, number: int) -> None:
    await set_aside(home)
    stopped = Faulty(home.services.store.sealed, at(number, Fault.AFTER), only={"reseal"})
    with pytest.raises(StoreUnavailable):
        await Rotation(stopped, BOTH, "test").run(lambda *_: None)
    done = await rotated(home)
    assert done.resealed == 4 - number
    assert done.complete


async def test_what_no_key_opens_is_told_and_nothing_is_lost(home: Home) -> None:
    await set_aside(home)
    before = await everything(home.house.table)
    done = await rotated(home, KeyRing([NEW, THIRD]))
    assert (done.resealed, done.unopened, done.complete) == (0, 4, False)
    assert await everything(home.house.table) == before


async def test_a_grant_that_is_being_refreshed_is_left_until_it_is_stored(home: Home) -> None:
    grant = await home.grant()
    await home.services.store.connections.claim_grant(grant, "somebody")
    claimed = msgspec.structs.replace(grant, claim="somebody")
    resealed = msgspec.structs.replace(grant, sealed=b"other")
    with pytest.raises(Outdated):
        await home.services.store.sealed.reseal(grant, resealed)
    done: list[Rotated] = []

    async def rotate() -> None:
        done.append(await rotated(home))

    async with anyio.create_task_group() as group:
        group.start_soon(rotate)
        await anyio.sleep(5)
        assert (await home.grant()) == claimed
        await home.services.store.connections.store_grant(msgspec.structs.replace(grant, version=grant.version + 1))
    assert done[0].complete
    assert BOTH.seals_now((await home.grant()).sealed)
    assert (await home.grant()).version == grant.version + 1


async def test_a_claim_of_a_process_that_died_stops_nobody(home: Home) -> None:
    await home.services.store.connections.claim_grant(await home.grant(), "dead")
    done = await rotated(home)
    assert done.complete
    grant = await home.grant()
    assert (grant.claim, BOTH.seals_now(grant.sealed)) == ("dead", True)


async def test_rotation_while_polls_and_refreshes_run_loses_no_grant(home: Home) -> None:
    random = Random(6)
    table = cast("Table", Stale(home.house.table, random))
    twin, _ = home.house.twin(table, KeyRing([NEW, THIRD, OLD]))
    rings = KeyRing([THIRD, NEW, OLD]), KeyRing([NEW, THIRD, OLD])
    endings: list[str] = []

    async def poll() -> None:
        for _ in range(3):
            await anyio.sleep(random.random() * 30)
            turn = await twin.polling.turn(ADA, 1, Plan(), asked=True)
            endings.append(turn.outcome.ending)

    async def rotate() -> None:
        for ring in rings * 3:
            await anyio.sleep(random.random() * 10)
            await Rotation(twin.store.sealed, ring, "test").run(lambda *_: None)

    for _ in range(6):
        await home.until_expired()  # so that the first look refreshes
        async with anyio.create_task_group() as group:
            group.start_soon(poll)
            group.start_soon(rotate)
    assert set(endings) <= {"read", "nothing_new", "grant_busy"}, endings
    assert home.rotations >= 6
    assert home.house.simulator.calls["token", 400] == 0
    assert (await home.connection()).state is State.ACTIVE
    assert (await rotated(home, rings[1])).complete
    alone, _ = home.house.twin(sealer=KeyRing([NEW]))
    turn = await alone.polling.turn(ADA, 1, Plan(), asked=True)
    assert turn.outcome.ending in {"read", "nothing_new"}


async def test_nobody_erased_comes_back_by_being_sealed_anew(home: Home) -> None:
    await set_aside(home)
    seen = [each async for page in home.services.store.sealed.found(0, 1) for each in page]
    await home.services.erasing.erase(ADA.user)
    before = await everything(home.house.table)
    anew = rotation(home)
    for each in seen:
        if not isinstance(each, AuditKey):
            with pytest.raises(Outdated):
                await home.services.store.sealed.reseal(each, anew._anew(each))
    assert await everything(home.house.table) == before
