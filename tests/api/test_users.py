"""A user as a whole, by HTTP."""

from collections.abc import AsyncIterator

import pytest

from bg_ingest.domain.credentials import Scope
from bg_ingest.domain.ids import UserId
from tests.api.acme import Acme
from tests.api.desk import Desk, open_desk, reading
from tests.api.test_bad_requests import assert_problem
from tests.api.test_connections import connect
from tests.fakes.faults import Fault, Faulty

ADA = "/api/users/ada"
NOTHING = dict.fromkeys(("readings", "changes", "connections", "grants", "gaps", "quarantined", "keys", "others"), 0)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk(acme=Acme()) as opened:
        yield opened


async def test_an_erasure_answers_with_what_was_removed(desk: Desk) -> None:
    await connect(desk)
    await desk.keep(*(reading(number) for number in range(10)))
    answer = await desk.http.delete(ADA)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == NOTHING | {"readings": 10, "changes": 2, "connections": 1, "grants": 1}
    assert (await desk.http.delete(ADA)).json() == NOTHING
    assert_problem(await desk.http.get("/api/bg/ada/latest"), 404, "unknown")


async def test_whom_nobody_knew_is_unknown(desk: Desk) -> None:
    assert_problem(await desk.http.delete("/api/users/nobody"), 404, "unknown")
    assert_problem(await desk.http.delete("/api/users/no%23body"), 400, "invalid-user-id")
    assert_problem(await desk.http.delete(f"{ADA}?force=1"), 400, "unknown-parameter")


async def test_an_erasure_that_the_store_stopped_asks_to_be_sent_again(desk: Desk) -> None:
    await connect(desk)
    whole = desk.store.erasures
    desk.services.store.erasures = Faulty(whole, lambda _: Fault.BEFORE, only={"clear"})
    answer = await desk.http.delete(ADA)
    assert_problem(answer, 503, "store-unavailable")
    assert "retry-after" in answer.headers
    assert_problem(await desk.http.get("/api/bg/ada"), 404, "unknown")
    desk.services.store.erasures = whole
    assert (await desk.http.delete(ADA)).json()["changes"] == 1


async def test_keys_that_named_the_user_name_nobody_then(desk: Desk) -> None:
    await connect(desk)
    keyring = desk.services.keyring
    only = await keyring.make("a", [Scope.READINGS_READ], users=[UserId("ada")])
    both = await keyring.make("b", [Scope.READINGS_READ], users=[UserId("ada"), UserId("ben")])
    everybody = await keyring.make("c", [Scope.READINGS_READ])
    removed = await desk.services.erasing.erase(UserId("ada"))
    assert removed.keys == 2
    users = {each.id: each.users for each in await keyring.all()}
    assert users == {only.key.id: frozenset(), both.key.id: {"ben"}, everybody.key.id: None}
