"""Who read or changed whose data."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import pytest

from bg_ingest.adapters.sealing import KeyRing
from bg_ingest.api.auth import Access
from bg_ingest.domain.audit import Action
from bg_ingest.domain.credentials import Scope
from bg_ingest.domain.ids import UserId
from bg_ingest.services import audit
from tests.api.acme import Acme
from tests.api.desk import ADA, Desk, open_desk, reading
from tests.api.test_bad_requests import assert_problem
from tests.api.test_connections import connect
from tests.fakes.clock import NOON
from tests.fakes.faults import Fault, Faulty
from tests.whole_table import everything

PERIOD = {"user": "ada", "from": "2026-03-01", "to": "2026-03-04"}
AUDIT = "GET /api/audit"
LATEST, DISCONNECT = "GET /api/bg/{user_id}/latest", "DELETE /api/users/{user_id}/connections/{provider}"


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk(acme=Acme()) as opened:
        yield opened


async def audited(desk: Desk, **changed: str) -> list[dict[str, str]]:
    await desk.services.auditing.write()
    answer = await desk.http.get("/api/audit", params=PERIOD | changed)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, str]] = answer.json()
    return [each for each in found if each["route"] != AUDIT]


async def test_reads_are_on_record_once_an_hour_and_changes_each(desk: Desk) -> None:
    await connect(desk)
    await desk.keep(reading(-1))
    await desk.services.auditing.write()
    desk.clock.advance(timedelta(hours=1, minutes=20))
    for _ in range(3):
        await desk.http.get("/api/bg/ada/latest")
    for _ in range(2):
        await desk.http.delete("/api/users/ada/connections/acme")
        desk.clock.advance(timedelta(seconds=1))
    desk.clock.advance(timedelta(hours=1))
    await desk.http.get("/api/bg/ada/latest")
    found = [each for each in await audited(desk) if each["at"] >= "2026-03-02T13:00:00Z"]
    assert [(each["at"], each["action"], each["route"]) for each in found] == [
        ("2026-03-02T13:00:00Z", "read", LATEST),
        ("2026-03-02T13:20:00Z", "change", DISCONNECT),
        ("2026-03-02T13:20:01Z", "change", DISCONNECT),
        ("2026-03-02T14:00:00Z", "read", LATEST),
    ]


async def test_changes_of_one_instant_are_each_on_record_and_written_twice_stay_one(desk: Desk) -> None:
    auditing = desk.services.auditing
    for _ in range(3):
        auditing.note(ADA, "key:a", DISCONNECT, Action.CHANGE)
        auditing.note(ADA, "key:a", LATEST, Action.READ)
    whole = auditing._trail
    auditing._trail = Faulty(whole, lambda _: Fault.AFTER, only={"add"})
    assert await auditing.write() == 0, "written, but nobody heard"
    auditing._trail = whole
    assert sorted(each["action"] for each in await audited(desk)) == ["change", "change", "change", "read"]


async def test_a_connect_is_on_record_with_the_user_it_was_for(desk: Desk) -> None:
    await connect(desk)
    routes = {(each["route"], each["action"], each["credential"]) for each in await audited(desk)}
    assert ("POST /api/users/{user_id}/connections/{provider}", "change", "anybody") in routes
    assert ("GET /api/oauth/{provider}/callback", "read", "oauth-state") not in routes
    assert ("GET /api/oauth/{provider}/callback", "change", "oauth-state") in routes


async def test_what_was_refused_is_not_on_record(desk: Desk) -> None:
    await desk.http.get("/api/bg/ada/latest")
    await desk.http.delete("/api/users/ada")
    await desk.http.get("/api/bg/ada?nonsense=1")
    assert await audited(desk) == []


async def test_the_credential_is_on_record_and_no_user_id_anywhere() -> None:
    async with open_desk(Access.CLOSED, acme=Acme()) as desk:
        await desk.keep(reading(-1))
        made = await desk.services.keyring.make("test", [Scope.READINGS_READ, Scope.ADMIN])
        await anyio.sleep(2)  # until a new key is known
        headers = {"Authorization": f"Bearer {made.text.reveal()}"}
        await desk.http.get("/api/bg/ada/latest", headers=headers)
        await desk.services.auditing.write()
        answer = await desk.http.get("/api/audit", params=PERIOD, headers=headers)
        assert [each["credential"] for each in answer.json()] == [f"key:{made.key.id}"]
        kept = {key: item for key, item in (await everything(desk.table)).items() if key[0].startswith("audit")}
        assert kept
        assert not re.search(r"\bada\b", str(kept)), "in a hash the letters may stand, by chance"


async def test_a_tokens_user_is_hashed_too(desk: Desk) -> None:
    desk.services.auditing.note(ADA, "token:ada", LATEST, Action.READ)
    (found,) = await audited(desk)
    kind, name = found["credential"].split(":")
    assert kind == "token"
    assert len(name) == 32
    assert "ada" not in name


async def test_the_audit_outlives_an_erasure_and_tells_of_it(desk: Desk) -> None:
    await connect(desk)
    await audited(desk)
    assert (await desk.http.delete("/api/users/ada")).status_code == 200
    routes = [each["route"] for each in await audited(desk)]
    assert routes.count("DELETE /api/users/{user_id}") == 1
    assert len(routes) > 2


async def test_who_read_the_audit_is_on_record_too(desk: Desk) -> None:
    await audited(desk)
    await desk.services.auditing.write()
    answer = await desk.http.get("/api/audit", params=PERIOD)
    assert [(each["action"], each["route"]) for each in answer.json()] == [("read", AUDIT)]


async def test_records_are_of_one_person_only_and_go_after_their_time(desk: Desk) -> None:
    desk.services.auditing.note(ADA, "key:a", LATEST, Action.CHANGE)
    desk.services.auditing.note(UserId("ben"), "key:b", LATEST, Action.CHANGE)
    assert [each["credential"] for each in await audited(desk)] == ["key:a"]
    assert [each["credential"] for each in await audited(desk, user="ben")] == ["key:b"]
    assert await audited(desk, user="nobody") == []
    kept = [item for key, item in (await everything(desk.table)).items() if key[0].startswith("audit#")]
    assert {item["expires_at"] for item in kept} == {int((NOON + timedelta(days=365)).timestamp())}
    desk.clock.advance(timedelta(days=365))
    assert await audited(desk) == []


@pytest.mark.parametrize(
    ("changed", "slug"),
    [
        ({"user": ""}, "invalid-user-id"),
        ({"user": "a#b"}, "invalid-user-id"),
        ({"from": "yesterday"}, "invalid-time"),
        ({"from": "2026-03-05"}, "invalid-range"),
        ({"page": "2"}, "unknown-parameter"),
    ],
)
async def test_a_question_that_cannot_be_meant_is_refused(desk: Desk, changed: dict[str, str], slug: str) -> None:
    assert_problem(await desk.http.get("/api/audit", params=PERIOD | changed), 400, slug)


async def test_while_the_store_is_away_the_audit_waits_and_requests_do_not(desk: Desk) -> None:
    auditing = desk.services.auditing
    whole = auditing._trail
    auditing._trail = Faulty(whole, lambda _: Fault.BEFORE)
    desk.services.auditing.note(ADA, "key:a", LATEST, Action.CHANGE)
    assert await auditing.write() == 0
    auditing._trail = whole
    assert [each["credential"] for each in await audited(desk)] == ["key:a"]


async def test_what_finds_no_room_is_counted_and_a_read_is_noted_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MOST_WAITING", 2)
    auditing = desk.services.auditing
    for number in range(4):
        auditing.note(ADA, f"key:{number}", LATEST, Action.READ)
    assert auditing.dropped == 2
    assert len(await audited(desk)) == 2
    auditing.note(ADA, "key:3", LATEST, Action.READ)
    assert {each["credential"] for each in await audited(desk)} == {"key:0", "key:1", "key:3"}


async def test_two_processes_hash_alike(desk: Desk) -> None:
    services = desk.services
    twin = audit.Auditing(desk.store.trail, KeyRing([bytes(32)]), desk.clock, "test", kept=timedelta(days=1))
    services.auditing.note(ADA, "key:a", LATEST, Action.CHANGE)
    twin.note(ADA, "key:b", LATEST, Action.CHANGE)
    await twin.write()
    assert {each["credential"] for each in await audited(desk)} == {"key:a", "key:b"}
