from contextlib import suppress
from datetime import timedelta

import anyio
import httpx
import pytest

from bg_ingest.domain.connections import Defaults, State
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.errors import BudgetSpent, ConnectRefused, NotPossible, Unknown
from bg_ingest.ports import Priority
from bg_ingest.services.connect import STATE_LIVES
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import Failed, Html
from tests.home import ADA, Home
from tests.house import PROVIDER, START, House, house


async def state_of(opened: House, user: str = "ada") -> str:
    begun = await opened.services.connecting.begin(UserId(user), PROVIDER, None)
    return begun.authorize_url.rpartition("state=")[2]


async def test_until_the_person_has_allowed_it_nothing_is_connected() -> None:
    async with house() as opened:
        await state_of(opened)
        connection = await opened.connection("ada")
        assert connection.state is State.CONNECTING
        assert (await opened.api.get("/api/bg/ada/latest")).status_code == 404
        await anyio.sleep(STATE_LIVES.total_seconds())
        assert await opened.services.store.connections.get(ADA) is None, "an abandoned connect goes away"


async def test_case_12_a_declined_consent_changes_nothing() -> None:
    async with house() as opened:
        state = await state_of(opened)
        with pytest.raises(ConnectRefused, match="did not allow"):
            await opened.services.connecting.finish(PROVIDER, state=state, code=None, error="access_denied")
        assert (await opened.connection("ada")).state is State.CONNECTING


@pytest.mark.parametrize("state", [None, "", "of my own making"])
async def test_case_12_a_made_up_state_asks_the_provider_nothing(state: str | None) -> None:
    async with house() as opened:
        with pytest.raises(ConnectRefused, match="expired or was used"):
            await opened.services.connecting.finish(PROVIDER, state=state, code="a code", error=None)
        assert not opened.simulator.calls


async def test_case_12_an_expired_state_is_refused() -> None:
    async with house() as opened:
        state = await state_of(opened)
        await anyio.sleep(STATE_LIVES.total_seconds() + 1)
        with pytest.raises(ConnectRefused, match="expired or was used"):
            await opened.services.connecting.finish(PROVIDER, state=state, code="a code", error=None)
        assert not opened.simulator.calls


async def test_case_12_a_replayed_callback_is_refused_and_the_connection_stays(home: Home) -> None:
    replayed = str(home.house.callbacks[-1])
    again = await home.house.api.get(replayed)
    assert again.status_code == 400
    assert "start connecting again" in again.text
    assert (await home.connection()).state is State.ACTIVE


async def test_case_12_of_two_callbacks_at_once_one_connects() -> None:
    async with house(defaults=Defaults(backfill_days=1)) as opened:
        statuses: list[int] = []
        callback = await opened.callback_of("ada", "SandboxUser1")

        async def call() -> None:
            statuses.append((await opened.api.get(callback)).status_code)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            group.start_soon(call)
        assert sorted(statuses) == [200, 400]
        assert opened.simulator.calls["token", 200] == 1


async def test_a_code_the_provider_does_not_take_is_refused() -> None:
    async with house() as opened:
        with pytest.raises(ConnectRefused, match="confirmation has expired"):
            await opened.services.connecting.finish(PROVIDER, state=await state_of(opened), code="bad", error=None)


@pytest.mark.parametrize("fault", [Failed(endpoint="token"), Html(endpoint="token"), Failed(endpoint="dataRange")])
async def test_a_failed_exchange_leaves_the_existing_connection_untouched(home: Home, fault: Failed | Html) -> None:
    before = await home.connection(), await home.grant()
    home.house.simulator.add_fault(fault)
    answer = await home.house.connect("ada", "SandboxUser2")
    assert answer.status_code >= 500
    assert (await home.connection(), await home.grant()) == before


async def test_case_11_one_providers_account_belongs_to_one_user(home: Home) -> None:
    answer = await home.house.connect("ben", "SandboxUser1")
    assert answer.status_code == 400
    assert "already connected to another user" in answer.text
    assert (await home.connection()).state is State.ACTIVE
    assert (await home.house.connect("ben", "SandboxUser2")).status_code == 200


async def test_case_12_of_two_users_who_bring_one_account_at_once_one_is_connected() -> None:
    async with house(defaults=Defaults(backfill_days=1)) as opened:
        callbacks = [await opened.callback_of(user, "SandboxUser1") for user in ("ada", "ben")]
        answers: list[httpx.Response] = []

        async def call(url: httpx.URL) -> None:
            answers.append(await opened.api.get(url))

        async with anyio.create_task_group() as group:
            for url in callbacks:
                group.start_soon(call, url)
        connected, refused = sorted(answers, key=lambda each: each.status_code)
        assert (connected.status_code, refused.status_code) == (200, 400)
        assert "already connected to another user" in refused.text
        heads = [await opened.services.store.readings.head(UserId(user)) for user in ("ada", "ben")]
        assert sum(head is not None for head in heads) == 1


async def test_a_disconnected_account_is_free_for_another_user(home: Home) -> None:
    await home.services.steering.disconnect(ADA)
    assert (await home.house.connect("ben", "SandboxUser1")).status_code == 200


async def test_case_11_reconnecting_with_another_account_mixes_nothing(home: Home) -> None:
    before = await home.house.stored("ada")
    await home.house.connect("ada", "SandboxUser2")
    await home.read_past()
    after = await home.house.stored("ada")
    accounts = {each.reading.device.provider_account for each in after}
    assert len(accounts) == 2
    assert [each for each in after if each in before] == before


async def test_regions_are_chosen_before_the_login() -> None:
    async with house() as opened:
        with pytest.raises(NotPossible, match="choose one of us, ou"):
            await opened.services.connecting.begin(UserId("ada"), PROVIDER, "moon")
        with pytest.raises(Unknown, match="known are: dexcom"):
            await opened.services.connecting.begin(UserId("ada"), "libre", None)
        await opened.services.connecting.begin(UserId("ada"), PROVIDER, "ou")
        assert (await opened.connection("ada")).region == "ou"


async def test_a_user_without_any_readings_is_connected_and_waits_for_the_first() -> None:
    simulated = SimulatorOptions(days_back=0)
    async with house(simulated=simulated) as opened:
        home = Home(opened)
        await opened.connect("ada")
        connection = await home.connection()
        assert (connection.backfill, connection.newest_reading_at) == (None, None)
        assert (await opened.api.get("/api/bg/ada")).json() == []
        turn = await home.turn()
        for _ in range(20):
            turn = await home.due_turn(turn)
        stored = await home.measured()
        assert stored
        assert stored == opened.truth("SandboxUser1", START, opened.clock.now())[: len(stored)]


async def test_the_state_is_not_kept_as_it_is_sent() -> None:
    async with house() as opened:
        state = await state_of(opened)
        assert await opened.services.store.states.take(state, opened.clock.now() - timedelta(minutes=1)) is None
        assert await opened.services.store.connections.get(ConnectionId(UserId("ada"), PROVIDER)) is not None


async def test_who_waits_at_a_browser_is_served_before_polls_that_want_all_calls() -> None:
    async with house(simulated=SimulatorOptions(calls_per_hour=3_600)) as opened:
        budget = opened.services.budget

        async def polling() -> None:
            while True:
                with suppress(BudgetSpent):
                    await budget.take(PROVIDER, "us", Priority.LIVE)
                await anyio.sleep(0.1)

        async with anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(polling)
            await anyio.sleep(120)
            answers = [await opened.connect(f"user-{number}", f"SandboxUser{number}") for number in (1, 2, 3)]
            group.cancel_scope.cancel()
        assert [each.status_code for each in answers] == [200, 200, 200]
