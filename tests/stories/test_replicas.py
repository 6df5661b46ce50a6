"""Two replicas over one table: either one accepts a request, owns a shard, or ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import httpx
import msgspec
import pytest

from bg_ingest.domain.connections import ConnectionState, PollDefaults
from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId, shard_of
from bg_ingest.domain.ownership import SHARED_TIMINGS
from bg_ingest.domain.segment_codec import to_epoch_ms, to_epoch_seconds
from bg_ingest.ports.table import Delete, Put
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.store import keys
from bg_ingest.store.inbox import RequestKind
from bg_ingest.store.items import build_item
from tests.harness.service import PROVIDER, Replica, ServiceHarness, open_service
from workers.build import Workers

pytestmark = pytest.mark.usefixtures("with_and_without_log")

ONE_MINUTE = SimulatorOptions(cadence_minutes=1, delay_seconds=5)
EVERY_MINUTE = PollDefaults(poll_interval=timedelta(minutes=1), backfill_days=1)
PAIRED_USERS = ("ada", "ben")
USERS = {f"u{number}": f"SandboxUser{number}" for number in range(1, 7)}


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[ServiceHarness, Replica]]:
    """Two replicas with an even distribution of shards."""
    async with open_service(over_http=True, simulated=ONE_MINUTE, defaults=EVERY_MINUTE) as service:
        other = service.replica()
        async with service.running(), other.running():
            await anyio.sleep(6)
            assert [shards_of(service.workers), shards_of(other.workers)] == [SHARDS // 2, SHARDS // 2]
            yield service, other


def shards_of(workers: Workers) -> int:
    report = workers.status()
    assert report is not None
    return report.shards.owned


def is_polled_by(workers: Workers, user: str) -> bool:
    actors = workers.actors
    return actors is not None and actors.view.epoch(shard_of(UserId(user))) is not None


def user_of_other(service: ServiceHarness, other: Replica, user: str) -> httpx.AsyncClient:
    """API of the replica that does not own a user's shard."""
    return other.api if is_polled_by(service.workers, user) else service.api


def calls_of(service: ServiceHarness) -> int:
    return sum(service.simulator.calls.values())


async def stale_replica(service: ServiceHarness, user: str) -> timedelta:
    """Distance between a user's newest reading and the newest that the provider shows."""
    now = service.clock.now()
    shown, _ = service.true_values(USERS[user], now - timedelta(days=1), now)[-1]
    found = (await service.connection(user)).newest_reading_at
    assert found is not None
    return shown - found


async def test_who_connects_is_polled_within_seconds_whichever_replica_was_asked() -> None:
    async with pair() as (service, other):
        assert {is_polled_by(service.workers, user) for user in USERS} == {True, False}
        for user, person in USERS.items():
            assert (await service.connect(user, person)).status_code == 200
        await anyio.sleep(5)
        for user in USERS:
            assert await stale_replica(service, user) == timedelta(0)
        await anyio.sleep(600)
        for user in USERS:
            assert await stale_replica(service, user) <= timedelta(seconds=90)
            numbers = service.event_numbers(user)
            assert numbers == list(range(1, len(numbers) + 1))
        assert other.workers.unready_reasons() == []


async def test_settings_and_polls_requested_from_the_other_replica_take_effect_in_five_seconds() -> None:
    async with pair() as (service, other):
        await service.connect("ada")
        await anyio.sleep(120)
        api, path = user_of_other(service, other, "ada"), f"/api/users/ada/connections/{PROVIDER}"
        paused = await api.patch(f"{path}/worker", json={"paused": True})
        assert paused.json()["state"] == "paused"
        calls = calls_of(service)
        await anyio.sleep(300)
        assert calls_of(service) == calls, "a paused connection is not polled"
        await api.patch(f"{path}/worker", json={"paused": False, "poll_interval_seconds": 3600})
        await anyio.sleep(5)
        assert calls_of(service) > calls, "its owner polls again once it is resumed"
        calls = calls_of(service)
        await anyio.sleep(600)
        assert calls_of(service) == calls, "the new interval holds"
        assert (await api.post(f"{path}/poll")).status_code == 202
        await anyio.sleep(5)
        assert calls_of(service) == calls + 1


@pytest.mark.parametrize("gone", [f"/api/users/ada/connections/{PROVIDER}", "/api/users/ada"])
async def test_who_leaves_by_the_replica_that_does_not_serve_is_not_awaited_in_five_seconds(gone: str) -> None:
    async with pair() as (service, other):
        await service.connect("ada")
        path = f"/api/users/ada/connections/{PROVIDER}/worker"
        await service.api.patch(path, json={"poll_interval_seconds": 86_400})
        await anyio.sleep(120)
        api = user_of_other(service, other, "ada")
        owner = other if api is service.api else service
        assert owner.workers.connection_count() == 1
        assert (await api.delete(gone)).is_success
        await anyio.sleep(5)
        assert service.workers.connection_count() == other.workers.connection_count() == 0
        report = owner.workers.status()
        assert report is not None
        assert report.connections.polled == 0


async def test_readings_pushed_to_one_replica_are_published_by_the_other_within_seconds() -> None:
    async with pair() as (service, other):
        await service.connect("ada")
        await anyio.sleep(10)
        event_count = len(service.event_data_of("ada"))
        connection = await service.connection("ada")
        at = service.clock.now() - timedelta(minutes=3)
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
        service.api, kept = user_of_other(service, other, "ada"), service.api
        pushed = await service.push("ada", body)
        service.api = kept
        assert pushed.json()["stored"] == 1, pushed.text
        await anyio.sleep(5)
        assert len(service.event_data_of("ada")) > event_count


async def test_a_new_owner_handles_a_request_that_a_stale_writer_sent_to_the_previous_one() -> None:
    async with open_service(over_http=True, simulated=ONE_MINUTE, defaults=EVERY_MINUTE) as service:
        other = service.replica()
        async with service.running():
            async with other.running():
                await anyio.sleep(6)
                await service.connect("ada")
                await service.connect("ben", "SandboxUser2")
                assert {is_polled_by(other.workers, user) for user in PAIRED_USERS} == {True, False}
                for user in PAIRED_USERS:
                    path = f"/api/users/{user}/connections/{PROVIDER}/worker"
                    await service.api.patch(path, json={"poll_interval_seconds": 86_400})
                await anyio.sleep(120)
                moved = next(user for user in PAIRED_USERS if is_polled_by(other.workers, user))
                gone = other.workers.status()
                assert gone is not None
                assert gone.owner is not None
            await anyio.sleep(10)
            assert is_polled_by(service.workers, moved)
            assert service.workers.connection_count() == 2, "the directory was read twice"
            calls = calls_of(service)
            await write_request_at(service, gone.owner, moved)
            await anyio.sleep(5)
            assert calls_of(service) == calls + 1


async def test_a_process_that_returns_under_a_new_name_handles_requests_sent_to_the_old_one() -> None:
    async with pair() as (service, other):
        for user, person in USERS.items():
            await service.connect(user, person)
            path = f"/api/users/{user}/connections/{PROVIDER}/worker"
            await service.api.patch(path, json={"poll_interval_seconds": 86_400})
        await anyio.sleep(120)
        before = name_of(other.workers)
        await service.table.write(Delete(keys.owner(before)))
        await anyio.sleep(15)
        name = name_of(other.workers)
        assert name not in ("", before)
        assert {is_polled_by(service.workers, user) for user in USERS} == {True, False}
        calls = calls_of(service)
        for user in USERS:
            await write_request_at(service, before, user)
        await anyio.sleep(6)
        assert calls_of(service) == calls + len(USERS)
        assert not await service.services.store.inbox.list_requests(before)
        await anyio.sleep(6)
        assert not await service.services.store.inbox.list_requests(name), "reserved calls are dropped"


async def write_request_at(service: ServiceHarness, address: str, user: str) -> None:
    """Request a poll as a writer does that has read this address."""
    request = keys.request(address, to_epoch_ms(service.clock.now()), ConnectionId(UserId(user), PROVIDER))
    expires = service.clock.now() + timedelta(hours=1)
    await service.table.write(Put(request, build_item(wish=RequestKind.POLL, expires_at=to_epoch_seconds(expires))))


def name_of(workers: Workers) -> str:
    report = workers.status()
    return (report and report.owner) or ""


async def test_a_replica_that_stops_hands_its_users_over_at_once_and_nothing_is_lost() -> None:
    async with open_service(over_http=True, simulated=ONE_MINUTE, defaults=EVERY_MINUTE) as service:
        other = service.replica()
        async with service.running():
            async with other.running():
                await anyio.sleep(6)
                for user, person in USERS.items():
                    assert (await service.connect(user, person)).status_code == 200
                await anyio.sleep(300)
                moved = [user for user in USERS if is_polled_by(other.workers, user)]
                assert moved
            await anyio.sleep(SHARED_TIMINGS.snapshot_every + 0.2)
            assert shards_of(service.workers) == SHARDS
            assert all(is_polled_by(service.workers, user) for user in USERS)
            await anyio.sleep(600)
            for user, person in USERS.items():
                numbers = service.event_numbers(user)
                assert numbers == list(range(1, len(numbers) + 1))
                assert (await service.connection(user)).state is ConnectionState.ACTIVE
                assert await stale_replica(service, user) <= timedelta(seconds=90)
                stored = [
                    (each.reading.measured_at, each.reading.glucose_mg_dl)
                    for each in await service.stored_readings(user)
                ]
                truth = service.true_values(person, stored[0][0], stored[-1][0] + timedelta(seconds=1))
                assert stored == truth
