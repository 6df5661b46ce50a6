"""Erasure of a user while all other work continues."""

from collections.abc import Sequence
from itertools import cycle
from random import Random
from typing import Any

import anyio
import httpx
import pytest

from bg_ingest.domain.commits import NOTHING_ERASED
from bg_ingest.domain.connections import ConnectionState, PollDefaults
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.errors import NotFound, StoreUnavailable
from bg_ingest.ports import Observer
from bg_ingest.ports.table import Table
from bg_ingest.services.connections.erase import Eraser
from bg_ingest.services.polling.commit import Committer
from bg_ingest.simulator.faults import Slow
from bg_ingest.store import keys
from tests.fakes.faults import Fault, FaultyCalls, StaleReads, at
from tests.harness.connected_user import ADA, ConnectedUser
from tests.harness.service import PROVIDER, Replica, ServiceHarness, open_service
from tests.harness.table_dump import find_mentions
from tests.harness.webhook_sender import envelope, records
from tests.stories.test_replicas import is_polled_by

PERSON = UserId("ada-lovelace")
BEN = UserId("ben")


async def provider_account(service: ServiceHarness, user: str) -> str:
    return (await service.connection(user)).provider_account or ""


async def test_a_person_is_gone_and_a_second_time_there_is_nothing_to_remove(ada: ConnectedUser) -> None:
    removed = await ada.services.eraser.erase(ADA.user)
    assert removed.readings >= 280
    assert (removed.connections, removed.grants) == (1, 1)
    assert removed.changes >= 2
    assert (await ada.service.api.get("/api/bg/ada/latest")).status_code == 404
    assert (await ada.service.api.get("/api/bg/ada")).status_code == 404
    assert (await ada.service.api.get("/api/users/ada/connections")).status_code == 404
    assert await ada.services.eraser.erase(ADA.user) == NOTHING_ERASED


async def test_an_unknown_user_cannot_be_erased(ada: ConnectedUser) -> None:
    with pytest.raises(NotFound):
        await ada.services.eraser.erase(UserId("nobody"))


async def test_a_poll_after_it_leaves_the_connection_alone(ada: ConnectedUser) -> None:
    await ada.services.eraser.erase(ADA.user)
    report = await ada.poll(requested=True)
    assert report.due is None


async def test_the_person_may_come_back_and_numbers_go_on(ada: ConnectedUser) -> None:
    await ada.services.eraser.erase(ADA.user)
    tombstone = await ada.services.store.readings.head(ADA.user)
    assert tombstone is not None
    assert (await ada.service.connect("ada")).status_code == 200
    head = await ada.services.store.readings.head(ADA.user)
    assert head is not None
    assert (head.erased, head.last_change) == (False, tombstone.last_change + 1)
    await ada.read_backfill()
    assert await ada.measured_values()


async def test_a_connect_that_was_begun_before_does_not_bring_the_person_back(ada: ConnectedUser) -> None:
    callback = await ada.service.authorize("ada", "SandboxUser2")
    await ada.services.eraser.erase(ADA.user)
    page = await ada.service.api.get(callback)
    assert page.status_code == 400
    assert "start connecting again" in page.text
    head = await ada.services.store.readings.head(ADA.user)
    assert head is not None
    assert head.erased


async def test_a_connect_whose_exchange_is_under_way_does_not_bring_the_person_back(ada: ConnectedUser) -> None:
    callback = await ada.service.authorize("ada", "SandboxUser2")
    answers: list[httpx.Response] = []
    ada.service.simulator.add_fault(Slow(endpoint="token", seconds=5, count=1))

    async def call() -> None:
        answers.append(await ada.service.api.get(callback))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.sleep(1)
        await ada.services.eraser.erase(ADA.user)
        assert not answers
    assert answers[0].status_code == 400
    assert "was erased after this link was made" in answers[0].text
    assert (await find_mentions(ada.service.table, "ada")).keys() >= {keys.head(ADA.user)}
    assert await ada.services.store.connections.get(ADA) is None


async def test_while_something_is_left_the_person_is_asked_to_wait(ada: ConnectedUser) -> None:
    services = ada.services
    stopped = FaultyCalls(services.store.erasures, lambda _: Fault.BEFORE, only={"delete_next"})
    services.store.erasures = stopped
    with pytest.raises(StoreUnavailable):
        await services.eraser.erase(ADA.user)
    page = await ada.service.connect("ada")
    assert page.status_code == 400
    assert "in a few minutes" in page.text


async def test_a_connect_that_was_only_begun_is_forgotten() -> None:
    async with open_service() as service:
        callback = await service.authorize("ada", "SandboxUser1")
        removed = await service.services.eraser.erase(UserId("ada"))
        assert (removed.connections, removed.readings) == (1, 0)
        assert (await service.api.get(callback)).status_code == 400
        assert not await service.services.store.connections.list_for_user(UserId("ada"))


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
@pytest.mark.parametrize("number", range(1, 8))
async def test_an_erasure_that_broke_off_goes_on_at_the_next_request(number: int, fault: Fault) -> None:
    async with open_service(defaults=PollDefaults(backfill_days=10)) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        broken = FaultyCalls(service.table, at(number, fault), only={"transact", "write"})
        services, _ = service.new_process(broken)
        try:
            await services.eraser.erase(ADA.user)
        except StoreUnavailable:
            await services.eraser.erase(ADA.user)
        head = await services.store.readings.head(ADA.user)
        assert head is not None
        assert head.erased
        left = await find_mentions(service.table, ADA.user)
        own = {keys.head(ADA.user), keys.change(ADA.user, head.last_change)}
        assert {key for key in left if key[0] == keys.user_pk(ADA.user)} == own
        assert await services.store.erasures.pending_for(ADA.user) is None


async def push_repeatedly(
    service: ServiceHarness, user: str, account: str, to: Sequence[httpx.AsyncClient], statuses: list[int]
) -> None:
    for number, api in zip(range(40), cycle(to), strict=False):
        body = envelope(account, records(service.clock.now(), 3, 100 + number))
        statuses.append((await service.push(user, body, f"msg_{number}", to=api)).status_code)
        await anyio.sleep(0.7)


def has_next_poll(serving: ServiceHarness | Replica, connection: ConnectionId) -> bool:
    actors = serving.workers.actors
    scheduled = actors.scheduler.scheduled.get(connection) if actors else None
    return scheduled is not None and scheduled.running_poll is not None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_case_50_erased_during_poll_push_and_backfill_on_two_replicas_nothing_stays(seed: int) -> None:
    random = Random(seed)

    def around(table: Table) -> Any:
        return StaleReads(table, random, pause=lambda share: anyio.sleep(share / 20))

    async with open_service(defaults=PollDefaults(backfill_days=30), around=around) as service:
        other = service.replica()
        async with service.running(), other.running():
            await anyio.sleep(10)
            serving, asked = (service, other) if is_polled_by(service.workers, PERSON) else (other, service)
            assert is_polled_by(serving.workers, PERSON)
            assert not is_polled_by(asked.workers, PERSON)
            assert (await service.connect(PERSON)).status_code == 200
            assert (await service.connect(BEN, "SandboxUser2")).status_code == 200
            account, statuses = await provider_account(service, PERSON), list[int]()
            async with anyio.create_task_group() as group:
                group.start_soon(push_repeatedly, service, PERSON, account, (asked.api, serving.api), statuses)
                for _ in range(20):
                    await anyio.sleep(random.random() / 4)
                    await asked.api.post(f"/api/users/{PERSON}/connections/{PROVIDER}/poll")
                with anyio.fail_after(60):
                    while not has_next_poll(serving, ConnectionId(PERSON, PROVIDER)):  # noqa: ASYNC110 - the state has no event to wait for
                        await anyio.sleep(0.01)
                removed = await asked.services.eraser.erase(PERSON)
                assert await asked.services.store.erasures.pending_for(PERSON) is None
                await anyio.sleep(60)
            assert removed.readings > 0
            assert statuses[0] == 202
            assert statuses[-2:] == [404, 404]
            await anyio.sleep(300)
            assert (await find_mentions(service.table, PERSON, account)).keys() == {keys.head(PERSON)}
            head = await asked.services.store.readings.head(PERSON)
            assert head is not None
            assert (head.erased, head.newest, dict(head.summaries)) == (True, None, {})
            events = service.event_data_of(PERSON)
            assert events[-1] == {"user_id": PERSON, "change": head.last_change}, (
                "the end is published as the last event"
            )
            assert (await service.connection(BEN)).state is ConnectionState.ACTIVE
            assert await service.stored_readings(BEN)


async def test_an_erasure_hidden_from_its_own_process_is_finished_by_another(ada: ConnectedUser) -> None:
    services, workers = ada.service.new_process()
    dying: Any = StoreWithoutDeletes(ada.services.store)
    committer = Committer(dying, Observer(), ada.service.workers)
    with pytest.raises(StoreUnavailable):
        await Eraser(dying, committer, ada.services.clock, ada.service.workers).erase(ADA.user)
    async with workers.running(services):
        await anyio.sleep(200)
    assert await services.store.erasures.pending_for(ADA.user) is None
    left = await find_mentions(ada.service.table, ADA.user)
    assert all(key[1].startswith(("head", "change#", "ada#")) for key in left), left.keys()


class StoreWithoutDeletes:
    """A store whose process dies right after the erasure's transaction."""

    def __init__(self, store: Any) -> None:
        self.readings, self.connections = store.readings, store.connections
        self.states, self.webhooks, self.outbox = store.states, store.webhooks, store.outbox
        self.keys = store.keys
        self.erasures = FaultyCalls(store.erasures, lambda _: Fault.BEFORE, only={"delete_next"})
