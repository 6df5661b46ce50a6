"""Erasing a person while everything else goes on."""

from collections.abc import Sequence
from itertools import cycle
from random import Random
from typing import Any

import anyio
import httpx
import pytest

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.protocol import Table
from bg_ingest.domain.connections import Defaults, State
from bg_ingest.domain.erasure import Removed
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.errors import StoreUnavailable, Unknown
from bg_ingest.services.erase import Erasing
from tests.fakes.faults import Fault, Faulty, Stale, at
from tests.fundamentals.test_replicas import serves
from tests.home import ADA, Home
from tests.house import PROVIDER, House, Replica, house
from tests.sender import envelope, records
from tests.whole_table import mentions

PERSON = UserId("ada-lovelace")
BEN = UserId("ben")


async def provider_account(opened: House, user: str) -> str:
    return (await opened.connection(user)).provider_account or ""


async def test_a_person_is_gone_and_a_second_time_there_is_nothing_to_remove(home: Home) -> None:
    removed = await home.services.erasing.erase(ADA.user)
    assert removed.readings >= 280
    assert (removed.connections, removed.grants) == (1, 1)
    assert removed.changes >= 2
    assert (await home.house.api.get("/api/bg/ada/latest")).status_code == 404
    assert (await home.house.api.get("/api/bg/ada")).status_code == 404
    assert (await home.house.api.get("/api/users/ada/connections")).status_code == 404
    assert await home.services.erasing.erase(ADA.user) == Removed()


async def test_whom_nobody_knows_cannot_be_erased(home: Home) -> None:
    with pytest.raises(Unknown):
        await home.services.erasing.erase(UserId("nobody"))


async def test_a_turn_after_it_leaves_the_connection_alone(home: Home) -> None:
    await home.services.erasing.erase(ADA.user)
    turn = await home.turn(asked=True)
    assert turn.due is None


async def test_the_person_may_come_back_and_numbers_go_on(home: Home) -> None:
    await home.services.erasing.erase(ADA.user)
    tombstone = await home.services.store.readings.head(ADA.user)
    assert tombstone is not None
    assert (await home.house.connect("ada")).status_code == 200
    head = await home.services.store.readings.head(ADA.user)
    assert head is not None
    assert (head.erased, head.last_change) == (False, tombstone.last_change + 1)
    await home.read_past()
    assert await home.measured()


async def test_a_connect_that_was_begun_before_does_not_bring_the_person_back(home: Home) -> None:
    callback = await home.house.callback_of("ada", "SandboxUser2")
    await home.services.erasing.erase(ADA.user)
    page = await home.house.api.get(callback)
    assert page.status_code == 400
    assert "start connecting again" in page.text
    head = await home.services.store.readings.head(ADA.user)
    assert head is not None
    assert head.erased


async def test_a_connect_whose_exchange_is_under_way_does_not_bring_the_person_back(home: Home) -> None:
    callback = await home.house.callback_of("ada", "SandboxUser2")
    answers: list[httpx.Response] = []
    provider = home.services.connecting._providers[PROVIDER]
    exchange, reached, go_on = provider.exchange, anyio.Event(), anyio.Event()

    async def slow(region: str, code: str) -> Any:
        reached.set()
        await go_on.wait()
        return await exchange(region, code)

    provider.exchange = slow  # type: ignore[method-assign] # the provider takes its time

    async def call() -> None:
        answers.append(await home.house.api.get(callback))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await reached.wait()
        await home.services.erasing.erase(ADA.user)
        go_on.set()
    assert answers[0].status_code == 400
    assert "was erased after this link was made" in answers[0].text
    assert (await mentions(home.house.table, "ada")).keys() >= {keys.head(ADA.user)}
    assert await home.services.store.connections.get(ADA) is None


async def test_while_something_is_left_the_person_is_asked_to_wait(home: Home) -> None:
    services = home.services
    stopped = Faulty(services.store.erasures, lambda _: Fault.BEFORE, only={"clear"})
    services.store.erasures = stopped
    with pytest.raises(StoreUnavailable):
        await services.erasing.erase(ADA.user)
    page = await home.house.connect("ada")
    assert page.status_code == 400
    assert "in a few minutes" in page.text


async def test_a_connect_that_was_only_begun_is_forgotten() -> None:
    async with house() as opened:
        callback = await opened.callback_of("ada", "SandboxUser1")
        removed = await opened.services.erasing.erase(UserId("ada"))
        assert (removed.connections, removed.readings) == (1, 0)
        assert (await opened.api.get(callback)).status_code == 400
        assert not await opened.services.store.connections.of_user(UserId("ada"))


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
@pytest.mark.parametrize("number", range(1, 8))
async def test_an_erasure_that_broke_off_goes_on_at_the_next_request(number: int, fault: Fault) -> None:
    async with house(defaults=Defaults(backfill_days=10)) as opened:
        home = Home(opened)
        await home.connect()
        broken = Faulty(opened.table, at(number, fault), only={"transact", "write"})
        services, _ = opened.twin(broken)
        try:
            await services.erasing.erase(ADA.user)
        except StoreUnavailable:
            await services.erasing.erase(ADA.user)
        head = await services.store.readings.head(ADA.user)
        assert head is not None
        assert head.erased
        left = await mentions(opened.table, ADA.user)
        own = {keys.head(ADA.user), keys.change(ADA.user, head.last_change)}
        assert {key for key in left if key[0] == keys.user_pk(ADA.user)} == own
        assert await services.store.erasures.left_of(ADA.user) is None


async def pushing(opened: House, user: str, account: str, to: Sequence[httpx.AsyncClient], statuses: list[int]) -> None:
    for number, api in zip(range(40), cycle(to), strict=False):
        body = envelope(account, records(opened.clock.now(), 3, 100 + number))
        statuses.append((await opened.push(user, body, f"msg_{number}", to=api)).status_code)
        await anyio.sleep(0.7)


def has_turn(serving: House | Replica, connection: ConnectionId) -> bool:
    actors = serving.workers._actors
    seat = actors.scheduler.seats.get(connection) if actors else None
    return seat is not None and seat.turn is not None


@pytest.mark.parametrize("seed", range(2))
async def test_case_50_erased_during_poll_push_and_backfill_on_two_replicas_nothing_stays(seed: int) -> None:
    random = Random(seed)

    def around(table: Table) -> Any:
        return Stale(table, random, pause=lambda share: anyio.sleep(share / 20))

    async with house(defaults=Defaults(backfill_days=30), around=around) as opened:
        other = opened.replica()
        async with opened.running(), other.running():
            await anyio.sleep(10)
            serving, asked = (opened, other) if serves(opened.workers, PERSON) else (other, opened)
            assert serves(serving.workers, PERSON)
            assert not serves(asked.workers, PERSON)
            assert (await opened.connect(PERSON)).status_code == 200
            assert (await opened.connect(BEN, "SandboxUser2")).status_code == 200
            account, statuses = await provider_account(opened, PERSON), list[int]()
            async with anyio.create_task_group() as group:
                group.start_soon(pushing, opened, PERSON, account, (asked.api, serving.api), statuses)
                for _ in range(20):
                    await anyio.sleep(random.random() / 4)
                    await asked.api.post(f"/api/users/{PERSON}/connections/{PROVIDER}/poll")
                with anyio.fail_after(60):
                    while not has_turn(serving, ConnectionId(PERSON, PROVIDER)):  # noqa: ASYNC110 - it tells nobody
                        await anyio.sleep(0.01)
                removed = await asked.services.erasing.erase(PERSON)
                assert await asked.services.store.erasures.left_of(PERSON) is None
                await anyio.sleep(60)
            assert removed.readings > 0
            assert statuses[0] == 202
            assert statuses[-2:] == [404, 404]
            await anyio.sleep(300)
            assert (await mentions(opened.table, PERSON, account)).keys() == {keys.head(PERSON)}
            head = await asked.services.store.readings.head(PERSON)
            assert head is not None
            assert (head.erased, head.newest, dict(head.standings)) == (True, None, {})
            told = opened.told_of(PERSON)
            assert told[-1] == {"user_id": PERSON, "change": head.last_change}, "the end is told, and last"
            assert (await opened.connection(BEN)).state is State.ACTIVE
            assert await opened.stored(BEN)


async def test_an_erasure_hidden_from_its_own_process_is_finished_by_another(home: Home) -> None:
    services, workers = home.house.twin()
    first = home.services
    dying: Any = _NeverClearing(first.store)
    first.erasing = Erasing(dying, first.clock, home.house.workers)
    with pytest.raises(StoreUnavailable):
        await first.erasing.erase(ADA.user)
    async with workers.running(services):
        await anyio.sleep(200)
    assert await services.store.erasures.left_of(ADA.user) is None
    left = await mentions(home.house.table, ADA.user)
    assert all(key[1].startswith(("head", "change#", "ada#")) for key in left), left.keys()


class _NeverClearing:
    """A store whose process dies right after the erasure's transaction."""

    def __init__(self, store: Any) -> None:
        self.readings, self.connections = store.readings, store.connections
        self.states, self.webhooks, self.outbox = store.states, store.webhooks, store.outbox
        self.keys = store.keys
        self.erasures = Faulty(store.erasures, lambda _: Fault.BEFORE, only={"clear"})
