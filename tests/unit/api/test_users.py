"""Routes of a user over HTTP."""

from collections.abc import AsyncIterator

import pytest

from bg_ingest.domain.access import Scope
from bg_ingest.domain.ids import UserId
from tests.fakes.fake_provider import FakeProvider
from tests.fakes.faults import Fault, FaultyCalls
from tests.harness.api import ApiHarness, open_api, reading
from tests.unit.api.test_connections import connect
from tests.unit.api.test_validation import assert_problem

ADA = "/api/users/ada"
EMPTY_COUNTS = dict.fromkeys(
    ("readings", "changes", "connections", "grants", "gaps", "quarantined", "keys", "others"), 0
)


@pytest.fixture
async def api() -> AsyncIterator[ApiHarness]:
    async with open_api(acme=FakeProvider()) as opened:
        yield opened


async def test_an_erasure_answers_with_what_was_removed(api: ApiHarness) -> None:
    await connect(api)
    await api.add_readings(*(reading(number) for number in range(10)))
    answer = await api.http.delete(ADA)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == EMPTY_COUNTS | {"readings": 10, "changes": 2, "connections": 1, "grants": 1}
    assert (await api.http.delete(ADA)).json() == EMPTY_COUNTS
    assert_problem(await api.http.get("/api/bg/ada/latest"), 404, "unknown")


async def test_a_user_without_data_is_unknown(api: ApiHarness) -> None:
    assert_problem(await api.http.delete("/api/users/nobody"), 404, "unknown")
    assert_problem(await api.http.delete("/api/users/no%23body"), 400, "invalid-user-id")
    assert_problem(await api.http.delete(f"{ADA}?force=1"), 400, "unknown-parameter")


async def test_an_erasure_that_the_store_stopped_asks_to_be_sent_again(api: ApiHarness) -> None:
    await connect(api)
    whole = api.store.erasures
    api.services.store.erasures = FaultyCalls(whole, lambda _: Fault.BEFORE, only={"delete_next"})
    answer = await api.http.delete(ADA)
    assert_problem(answer, 503, "store-unavailable")
    assert "retry-after" in answer.headers
    assert_problem(await api.http.get("/api/bg/ada"), 404, "unknown")
    api.services.store.erasures = whole
    assert (await api.http.delete(ADA)).json()["changes"] == 1


async def test_keys_that_named_the_user_name_no_user_then(api: ApiHarness) -> None:
    await connect(api)
    keyring = api.services.api_keys
    only = await keyring.create("a", [Scope.READINGS_READ], users=[UserId("ada")])
    both = await keyring.create("b", [Scope.READINGS_READ], users=[UserId("ada"), UserId("ben")])
    unrestricted = await keyring.create("c", [Scope.READINGS_READ])
    removed = await api.services.eraser.erase(UserId("ada"))
    assert removed.keys == 2
    users = {each.id: each.users for each in await keyring.list()}
    assert users == {only.key.id: frozenset(), both.key.id: {"ben"}, unrestricted.key.id: None}
