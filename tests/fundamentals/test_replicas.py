"""Two replicas over one table: whichever is asked, whichever serves, whichever goes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import httpx
import msgspec
import pytest

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.protocol import Delete, Put
from bg_ingest.adapters.table.records import item
from bg_ingest.domain.columns import milliseconds, seconds
from bg_ingest.domain.connections import Defaults, State
from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId, shard_of
from bg_ingest.domain.leases import SHARED
from bg_ingest.ports import Wish
from bg_ingest.simulator import SimulatorOptions
from tests.house import PROVIDER, House, Replica, house
from workers.build import Workers

ONE_MINUTE = SimulatorOptions(cadence_minutes=1, delay_seconds=5)
EVERY_MINUTE = Defaults(poll_interval=timedelta(minutes=1), backfill_days=1)
PAIRED = ("ada", "ben")
PEOPLE = {f"u{number}": f"SandboxUser{number}" for number in range(1, 7)}


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[House, Replica]]:
    """Two replicas that have shared the shards evenly."""
    async with house(simulated=ONE_MINUTE, defaults=EVERY_MINUTE) as home:
        other = home.replica()
        async with home.running(), other.running():
            await anyio.sleep(6)
            assert [shards_of(home.workers), shards_of(other.workers)] == [SHARDS // 2, SHARDS // 2]
            yield home, other


def shards_of(workers: Workers) -> int:
    report = workers.report()
    assert report is not None
    return report.shards


def serves(workers: Workers, user: str) -> bool:
    actors = workers._actors
    return actors is not None and actors.ownership.epoch(shard_of(UserId(user))) is not None


def stranger(home: House, other: Replica, user: str) -> httpx.AsyncClient:
    """The API of the replica that does not serve a user."""
    return other.api if serves(home.workers, user) else home.api


def calls_of(home: House) -> int:
    return sum(home.simulator.calls.values())


async def behind(home: House, user: str) -> timedelta:
    """How much older a user's newest reading is than the newest that the provider shows."""
    now = home.clock.now()
    shown, _ = home.truth(PEOPLE[user], now - timedelta(days=1), now)[-1]
    found = (await home.connection(user)).newest_reading_at
    assert found is not None
    return shown - found


async def test_who_connects_is_polled_within_seconds_whichever_replica_was_asked() -> None:
    async with pair() as (home, other):
        assert {serves(home.workers, user) for user in PEOPLE} == {True, False}
        for user, person in PEOPLE.items():
            assert (await home.connect(user, person)).status_code == 200
        await anyio.sleep(5)
        for user in PEOPLE:
            assert await behind(home, user) == timedelta(0)
        await anyio.sleep(600)
        for user in PEOPLE:
            assert await behind(home, user) <= timedelta(seconds=90)
            numbers = home.told_numbers(user)
            assert numbers == list(range(1, len(numbers) + 1))
        assert other.workers.unready() == []


async def test_settings_and_looks_asked_of_the_replica_that_does_not_serve_take_effect_in_five_seconds() -> None:
    async with pair() as (home, other):
        await home.connect("ada")
        await anyio.sleep(120)
        api, path = stranger(home, other, "ada"), f"/api/users/ada/connections/{PROVIDER}"
        paused = await api.patch(f"{path}/worker", json={"paused": True})
        assert paused.json()["state"] == "paused"
        calls = calls_of(home)
        await anyio.sleep(300)
        assert calls_of(home) == calls, "nobody polls a paused connection"
        await api.patch(f"{path}/worker", json={"paused": False, "poll_interval_seconds": 3600})
        await anyio.sleep(5)
        assert calls_of(home) > calls, "and everybody hears when it goes on"
        calls = calls_of(home)
        await anyio.sleep(600)
        assert calls_of(home) == calls, "the new interval holds"
        assert (await api.post(f"{path}/poll")).status_code == 202
        await anyio.sleep(5)
        assert calls_of(home) == calls + 1


@pytest.mark.parametrize("gone", [f"/api/users/ada/connections/{PROVIDER}", "/api/users/ada"])
async def test_who_leaves_by_the_replica_that_does_not_serve_is_not_awaited_in_five_seconds(gone: str) -> None:
    async with pair() as (home, other):
        await home.connect("ada")
        path = f"/api/users/ada/connections/{PROVIDER}/worker"
        await home.api.patch(path, json={"poll_interval_seconds": 86_400})
        await anyio.sleep(120)
        api = stranger(home, other, "ada")
        owner = other if api is home.api else home
        assert owner.workers.polled() == 1
        assert (await api.delete(gone)).is_success
        await anyio.sleep(5)
        assert home.workers.polled() == other.workers.polled() == 0
        report = owner.workers.report()
        assert report is not None
        assert report.connections == 0


async def test_what_is_pushed_to_one_replica_is_told_by_the_other_within_seconds() -> None:
    async with pair() as (home, other):
        await home.connect("ada")
        await anyio.sleep(10)
        told = len(home.told_of("ada"))
        connection = await home.connection("ada")
        at = home.clock.now() - timedelta(minutes=3)
        pushed_reading = {
            "systemTime": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "displayTime": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "value": 123,
            "unit": "mg/dL",
            "transmitterId": "pushed",
            "displayDevice": "iOS",
            "transmitterGeneration": "g7",
        }
        envelope = {"recordType": "egv", "recordVersion": "3.0", "records": [pushed_reading]}
        body = msgspec.json.encode(envelope | {"userId": connection.provider_account})
        home.api, kept = stranger(home, other, "ada"), home.api
        pushed = await home.push("ada", body)
        home.api = kept
        assert pushed.json()["stored"] == 1, pushed.text
        await anyio.sleep(5)
        assert len(home.told_of("ada")) > told


async def test_a_taker_heeds_a_ring_to_the_owner_before_it_from_a_writer_that_knows_no_better() -> None:
    async with house(simulated=ONE_MINUTE, defaults=EVERY_MINUTE) as home:
        other = home.replica()
        async with home.running():
            async with other.running():
                await anyio.sleep(6)
                await home.connect("ada")
                await home.connect("ben", "SandboxUser2")
                assert {serves(other.workers, user) for user in PAIRED} == {True, False}
                for user in PAIRED:
                    path = f"/api/users/{user}/connections/{PROVIDER}/worker"
                    await home.api.patch(path, json={"poll_interval_seconds": 86_400})
                await anyio.sleep(120)
                moved = next(user for user in PAIRED if serves(other.workers, user))
                gone = other.workers.report()
                assert gone is not None
                assert gone.owner is not None
            await anyio.sleep(10)
            assert serves(home.workers, moved)
            assert home.workers.polled() == 2, "the directory was read, and once more"
            calls = calls_of(home)
            await ring_at(home, gone.owner, moved)
            await anyio.sleep(5)
            assert calls_of(home) == calls + 1


async def test_who_comes_back_under_a_new_name_hears_what_was_rung_at_the_old_one_for_whoever_it_is() -> None:
    async with pair() as (home, other):
        for user, person in PEOPLE.items():
            await home.connect(user, person)
            path = f"/api/users/{user}/connections/{PROVIDER}/worker"
            await home.api.patch(path, json={"poll_interval_seconds": 86_400})
        await anyio.sleep(120)
        before = name_of(other.workers)
        await home.table.write(Delete(keys.owner(before)))
        await anyio.sleep(15)
        name = name_of(other.workers)
        assert name not in ("", before)
        assert {serves(home.workers, user) for user in PEOPLE} == {True, False}
        calls = calls_of(home)
        for user in PEOPLE:
            await ring_at(home, before, user)
        await anyio.sleep(6)
        assert calls_of(home) == calls + len(PEOPLE)
        assert not await home.services.store.rings.waiting(before)
        await anyio.sleep(6)
        assert not await home.services.store.rings.waiting(name), "what was had is forgotten"


async def ring_at(home: House, address: str, user: str) -> None:
    """Ask for a look as a writer does who knows this address."""
    ring = keys.ring(address, milliseconds(home.clock.now()), ConnectionId(UserId(user), PROVIDER))
    expires = home.clock.now() + timedelta(hours=1)
    await home.table.write(Put(ring, item(wish=Wish.LOOK, expires_at=seconds(expires))))


def name_of(workers: Workers) -> str:
    report = workers.report()
    return (report and report.owner) or ""


async def test_a_replica_that_stops_hands_its_users_over_at_once_and_nothing_is_lost() -> None:
    async with house(simulated=ONE_MINUTE, defaults=EVERY_MINUTE) as home:
        other = home.replica()
        async with home.running():
            async with other.running():
                await anyio.sleep(6)
                for user, person in PEOPLE.items():
                    assert (await home.connect(user, person)).status_code == 200
                await anyio.sleep(300)
                moved = [user for user in PEOPLE if serves(other.workers, user)]
                assert moved
            await anyio.sleep(SHARED.look_every + 0.2)
            assert shards_of(home.workers) == SHARDS
            assert all(serves(home.workers, user) for user in PEOPLE)
            await anyio.sleep(600)
            for user, person in PEOPLE.items():
                numbers = home.told_numbers(user)
                assert numbers == list(range(1, len(numbers) + 1))
                assert (await home.connection(user)).state is State.ACTIVE
                assert await behind(home, user) <= timedelta(seconds=90)
                stored = [(each.reading.measured_at, each.reading.glucose_mg_dl) for each in await home.stored(user)]
                truth = home.truth(person, stored[0][0], stored[-1][0] + timedelta(seconds=1))
                assert stored == truth
