from contextlib import suppress
from datetime import timedelta

import anyio
import httpx
import pytest

from bg_ingest.domain.connections import ConnectionState, PollDefaults
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.errors import BudgetSpent, Conflict, ConnectRefused, NotFound
from bg_ingest.ports import AccountData, Ask, Done, Priority, Redirect
from bg_ingest.ports.provider import Field
from bg_ingest.services.connections.connect import STATE_LIFETIME
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import Failed, Html
from bg_ingest.store.single_use import MAX_STATES
from tests.fakes.fake_provider import FakeProvider
from tests.harness.api import ApiHarness, open_api
from tests.harness.connected_user import ADA, ConnectedUser
from tests.harness.service import PROVIDER, START, ServiceHarness, open_service


async def state_of(service: ServiceHarness, user: str = "ada") -> str:
    begun = await service.services.connector.begin(UserId(user), PROVIDER, None)
    return begun.authorize_url.rpartition("state=")[2]


async def test_until_the_person_has_allowed_it_nothing_is_connected() -> None:
    async with open_service() as service:
        await state_of(service)
        connection = await service.connection("ada")
        assert connection.state is ConnectionState.CONNECTING
        assert (await service.api.get("/api/bg/ada/latest")).status_code == 404
        await anyio.sleep(STATE_LIFETIME.total_seconds())
        assert await service.services.store.connections.get(ADA) is None, "an abandoned connect is removed"


async def test_case_12_a_declined_consent_changes_nothing() -> None:
    async with open_service() as service:
        state = await state_of(service)
        with pytest.raises(ConnectRefused, match="did not allow"):
            await service.services.connector.finish(PROVIDER, state=state, code=None, error="access_denied")
        assert (await service.connection("ada")).state is ConnectionState.CONNECTING


@pytest.mark.parametrize("state", [None, "", "of my own making"])
async def test_case_12_a_made_up_state_asks_the_provider_nothing(state: str | None) -> None:
    async with open_service() as service:
        with pytest.raises(ConnectRefused, match="expired or was used"):
            await service.services.connector.finish(PROVIDER, state=state, code="a code", error=None)
        assert not service.simulator.calls


async def test_case_12_an_expired_state_is_refused() -> None:
    async with open_service() as service:
        state = await state_of(service)
        await anyio.sleep(STATE_LIFETIME.total_seconds() + 1)
        with pytest.raises(ConnectRefused, match="expired or was used"):
            await service.services.connector.finish(PROVIDER, state=state, code="a code", error=None)
        assert not service.simulator.calls


async def test_case_12_f12_a_replayed_callback_changes_nothing_and_shows_the_result(ada: ConnectedUser) -> None:
    before = await ada.connection(), await ada.grant(), ada.service.simulator.calls["token", 200]
    again = await ada.service.api.get(str(ada.service.callbacks[-1]))
    assert again.status_code == 200
    assert "<h1>Connected</h1>" in again.text
    assert (await ada.connection(), await ada.grant(), ada.service.simulator.calls["token", 200]) == before


async def test_case_12_f12_of_two_callbacks_at_once_one_connects_and_both_show_it() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=1)) as service:
        statuses: list[int] = []
        callback = await service.authorize("ada", "SandboxUser1")

        async def call() -> None:
            statuses.append((await service.api.get(callback)).status_code)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            group.start_soon(call)
        assert statuses == [200, 200]
        assert service.simulator.calls["token", 200] == 1


async def test_a_code_the_provider_does_not_take_is_refused() -> None:
    async with open_service() as service:
        with pytest.raises(ConnectRefused, match="confirmation has expired"):
            await service.services.connector.finish(PROVIDER, state=await state_of(service), code="bad", error=None)


@pytest.mark.parametrize("fault", [Failed(endpoint="token"), Html(endpoint="token"), Failed(endpoint="dataRange")])
async def test_a_failed_exchange_leaves_the_existing_connection_untouched(
    ada: ConnectedUser, fault: Failed | Html
) -> None:
    before = await ada.connection(), await ada.grant()
    ada.service.simulator.add_fault(fault)
    answer = await ada.service.connect("ada", "SandboxUser2")
    assert answer.status_code >= 500
    assert (await ada.connection(), await ada.grant()) == before


async def test_case_11_one_providers_account_belongs_to_one_user(ada: ConnectedUser) -> None:
    answer = await ada.service.connect("ben", "SandboxUser1")
    assert answer.status_code == 400
    assert "already connected to another user" in answer.text
    assert (await ada.connection()).state is ConnectionState.ACTIVE
    assert (await ada.service.connect("ben", "SandboxUser2")).status_code == 200


async def test_case_12_of_two_users_who_bring_one_account_at_once_one_is_connected() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=1)) as service:
        callbacks = [await service.authorize(user, "SandboxUser1") for user in ("ada", "ben")]
        answers: list[httpx.Response] = []

        async def call(url: httpx.URL) -> None:
            answers.append(await service.api.get(url))

        async with anyio.create_task_group() as group:
            for url in callbacks:
                group.start_soon(call, url)
        connected, refused = sorted(answers, key=lambda each: each.status_code)
        assert (connected.status_code, refused.status_code) == (200, 400)
        assert "already connected to another user" in refused.text
        heads = [await service.services.store.readings.head(UserId(user)) for user in ("ada", "ben")]
        assert sum(head is not None for head in heads) == 1


async def test_a_disconnected_account_is_free_for_another_user(ada: ConnectedUser) -> None:
    await ada.services.connections.disconnect(ADA)
    assert (await ada.service.connect("ben", "SandboxUser1")).status_code == 200


async def test_case_11_reconnecting_with_another_account_mixes_nothing(ada: ConnectedUser) -> None:
    before = await ada.service.stored_readings("ada")
    await ada.service.connect("ada", "SandboxUser2")
    await ada.read_backfill()
    after = await ada.service.stored_readings("ada")
    accounts = {each.reading.device.provider_account for each in after}
    assert len(accounts) == 2
    assert [each for each in after if each in before] == before


async def test_regions_are_chosen_before_the_login() -> None:
    async with open_service() as service:
        with pytest.raises(Conflict, match="choose one of us, ou"):
            await service.services.connector.begin(UserId("ada"), PROVIDER, "moon")
        with pytest.raises(NotFound, match="known are: dexcom"):
            await service.services.connector.begin(UserId("ada"), "libre", None)
        await service.services.connector.begin(UserId("ada"), PROVIDER, "ou")
        assert (await service.connection("ada")).region == "ou"


async def test_a_user_without_any_readings_is_connected_and_waits_for_the_first() -> None:
    simulated = SimulatorOptions(days_back=0)
    async with open_service(simulated=simulated) as service:
        ada = ConnectedUser(service)
        await service.connect("ada")
        connection = await ada.connection()
        assert (connection.backfill, connection.newest_reading_at) == (None, None)
        assert (await service.api.get("/api/bg/ada")).json() == []
        report = await ada.poll()
        for _ in range(20):
            report = await ada.poll_when_due(report)
        stored = await ada.measured_values()
        assert stored
        assert stored == service.true_values("SandboxUser1", START, service.clock.now())[: len(stored)]


async def test_the_state_is_not_kept_as_it_is_sent() -> None:
    async with open_service() as service:
        state = await state_of(service)
        assert await service.services.store.states.consume(state, service.clock.now() - timedelta(minutes=1)) is None
        assert await service.services.store.connections.get(ConnectionId(UserId("ada"), PROVIDER)) is not None


async def test_a_person_at_a_browser_is_served_before_polls_that_need_all_calls() -> None:
    async with open_service(simulated=SimulatorOptions(calls_per_hour=3_600)) as service:
        budget = service.services.budget

        async def polling() -> None:
            while True:
                with suppress(BudgetSpent):
                    await budget.acquire(PROVIDER, "us", Priority.LIVE)
                await anyio.sleep(0.1)

        async with anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(polling)
            await anyio.sleep(120)
            answers = [await service.connect(f"user-{number}", f"SandboxUser{number}") for number in (1, 2, 3)]
            group.cancel_scope.cancel()
        assert [each.status_code for each in answers] == [200, 200, 200]


async def test_s11_a_user_has_a_handful_of_open_connects_and_the_oldest_ends() -> None:
    provider = FakeProvider()
    async with open_api(acme=provider) as api:
        states = []
        for _ in range(MAX_STATES + 3):
            states.append(await begin_with(provider, api))
            api.clock.advance(timedelta(seconds=1))
        rows = [key async for page in api.table.query("user#ada", "state#", "state$") for key, _ in page]
        assert len(rows) == MAX_STATES
        for state in states[:3]:
            with pytest.raises(ConnectRefused, match="expired or was used"):
                await api.services.connector.finish("acme", state=state, code="a code", error=None)
        other = await api.services.connector.begin(UserId("ben"), "acme", None)
        assert other.authorize_url, "each user has their own"
        for state in (states[3], states[-1]):
            await api.services.connector.finish("acme", state=state, code="a code", error=None)


async def test_s11_many_at_once_end_too() -> None:
    provider = FakeProvider()
    async with open_api(acme=provider) as api:
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(begin_with, provider, api)
        state = await begin_with(provider, api)
        state = await begin_with(provider, api)
        rows = [key async for page in api.table.query("user#ada", "state#", "state$") for key, _ in page]
        assert len(rows) == MAX_STATES
        await api.services.connector.finish("acme", state=state, code="a code", error=None)


async def test_s14_regions_of_one_host_share_accounts_and_calls() -> None:
    provider = FakeProvider(single_host=True)
    async with open_api(acme=provider) as api:
        connector, budget = api.services.connector, api.services.budget
        begun = await connector.begin(UserId("ada"), "acme", "ou")
        state = begun.authorize_url.rpartition("state=")[2]
        first = await connector.finish("acme", state=state, code="a code", error=None)
        assert (first.region, provider.exchanged) == ("ou", ["ou"])
        assert budget.budget_key("acme", "ou") == budget.budget_key("acme", "us")
        for region in ("us", "ou"):
            begun = await connector.begin(UserId("ben"), "acme", region)
            state = begun.authorize_url.rpartition("state=")[2]
            with pytest.raises(ConnectRefused, match="already connected to another user"):
                await connector.finish("acme", state=state, code="a code", error=None)
        begun = await connector.begin(UserId("ada"), "acme", "us")
        state = begun.authorize_url.rpartition("state=")[2]
        again = await connector.finish("acme", state=state, code="a code", error=None)
        assert (again.region, again.watermark) == ("us", first.watermark), "the same account continues"
        await api.services.connections.disconnect(again.id)
        begun = await connector.begin(UserId("ben"), "acme", "ou")
        state = begun.authorize_url.rpartition("state=")[2]
        await connector.finish("acme", state=state, code="a code", error=None)


async def test_s14_regions_of_separate_hosts_do_not() -> None:
    provider = FakeProvider()
    async with open_api(acme=provider) as api:
        budget = api.services.budget
        assert budget.budget_key("acme", "ou") != budget.budget_key("acme", "us")
        for user, region in (("ada", "us"), ("ben", "ou")):
            begun = await api.services.connector.begin(UserId(user), "acme", region)
            state = begun.authorize_url.rpartition("state=")[2]
            await api.services.connector.finish("acme", state=state, code="a code", error=None)


async def test_s14_a_closed_region_is_not_chosen_by_a_caller() -> None:
    async with open_api(acme=FakeProvider(closed_regions=frozenset({"ou"}))) as api:
        with pytest.raises(Conflict, match=r"choose one of us$"):
            await api.services.connector.begin(UserId("ada"), "acme", "ou")


async def begin_with(provider: FakeProvider, api: ApiHarness) -> str:
    begun = await api.services.connector.begin(UserId("ada"), provider.name, None)
    return begun.authorize_url.rpartition("state=")[2]


async def test_a_provider_that_asks_for_a_form_is_not_connected_yet() -> None:
    provider = FakeProvider()
    provider.steps = [Ask((Field("password", "Password", is_secret=True),))]
    async with open_api(acme=provider) as api:
        with pytest.raises(Conflict, match="has no login page"):
            await begin_with(provider, api)
        assert await api.store.connections.get(ConnectionId(UserId("ada"), "acme")) is None


async def test_an_account_that_the_permission_names_is_not_asked_for_again() -> None:
    provider = FakeProvider()
    async with open_api(acme=provider) as api:
        state = await begin_with(provider, api)
        provider.steps = [Done(provider.credentials(), AccountData("of the login", None))]
        connection = await api.services.connector.finish("acme", state=state, code="a code", error=None)
        assert (connection.provider_account, connection.available) == ("of the login", None)
        assert not provider.calls


async def test_a_callback_without_a_permission_connects_no_user() -> None:
    provider = FakeProvider()
    async with open_api(acme=provider) as api:
        state = await begin_with(provider, api)
        provider.steps = [Redirect("https://us.acme.test/again")]
        with pytest.raises(ConnectRefused, match="could not finish"):
            await api.services.connector.finish("acme", state=state, code="a code", error=None)
