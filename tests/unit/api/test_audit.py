"""Audit records of reads and changes."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import pytest

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.api.auth import Access
from bg_ingest.domain.access import AuditAction, Scope
from bg_ingest.domain.ids import UserId
from bg_ingest.services.access import audit
from tests.fakes.clock import NOON
from tests.fakes.fake_provider import FakeProvider
from tests.harness.api import ADA, ApiHarness, open_api, reading
from tests.harness.table_dump import read_all_items
from tests.unit.api.test_connections import connect
from tests.unit.api.test_validation import assert_problem

PERIOD = {"user": "ada", "from": "2026-03-01", "to": "2026-03-04"}
AUDIT = "GET /api/audit"
LATEST, DISCONNECT = "GET /api/bg/{user_id}/latest", "DELETE /api/users/{user_id}/connections/{provider}"


@pytest.fixture
async def api() -> AsyncIterator[ApiHarness]:
    async with open_api(acme=FakeProvider()) as opened:
        yield opened


async def get_audit(api: ApiHarness, **changed: str) -> list[dict[str, str]]:
    await api.services.audit_log.flush()
    answer = await api.http.get("/api/audit", params=PERIOD | changed)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, str]] = answer.json()
    return [each for each in found if each["route"] != AUDIT]


async def test_reads_are_on_record_once_an_hour_and_changes_each(api: ApiHarness) -> None:
    await connect(api)
    await api.add_readings(reading(-1))
    await api.services.audit_log.flush()
    api.clock.advance(timedelta(hours=1, minutes=20))
    for _ in range(3):
        await api.http.get("/api/bg/ada/latest")
    for _ in range(2):
        await api.http.delete("/api/users/ada/connections/acme")
        api.clock.advance(timedelta(seconds=1))
    api.clock.advance(timedelta(hours=1))
    await api.http.get("/api/bg/ada/latest")
    found = [each for each in await get_audit(api) if each["at"] >= "2026-03-02T13:00:00Z"]
    assert [(each["at"], each["action"], each["route"]) for each in found] == [
        ("2026-03-02T13:00:00Z", "read", LATEST),
        ("2026-03-02T13:20:00Z", "change", DISCONNECT),
        ("2026-03-02T13:20:01Z", "change", DISCONNECT),
        ("2026-03-02T14:00:00Z", "read", LATEST),
    ]


async def test_a_connect_is_on_record_with_the_user_it_was_for(api: ApiHarness) -> None:
    await connect(api)
    routes = {(each["route"], each["action"], each["credential"]) for each in await get_audit(api)}
    assert ("POST /api/users/{user_id}/connections/{provider}", "change", "anybody") in routes
    assert ("GET /api/oauth/{provider}/callback", "read", "oauth-state") not in routes
    assert ("GET /api/oauth/{provider}/callback", "change", "oauth-state") in routes


async def test_what_was_refused_is_not_on_record(api: ApiHarness) -> None:
    await api.http.get("/api/bg/ada/latest")
    await api.http.delete("/api/users/ada")
    await api.http.get("/api/bg/ada?nonsense=1")
    assert await get_audit(api) == []


async def test_s10_refusals_are_recorded_with_their_sender() -> None:
    async with open_api(Access.CLOSED, acme=FakeProvider()) as api:
        await api.add_readings(reading(-1))
        made = await api.services.api_keys.create("test", [Scope.READINGS_READ])
        other = await api.services.api_keys.create("other", [Scope.READINGS_READ], users=[UserId("ben")])
        admin = await api.services.api_keys.create("admin", [Scope.ADMIN])
        await anyio.sleep(2)  # until the new keys are known
        key, foreign = ({"Authorization": f"Bearer {made_key.text.reveal()}"} for made_key in (made, other))
        assert (await api.http.get("/api/bg/ada/latest")).status_code == 401
        assert (await api.http.get("/api/bg/ada?view=full", headers={"Authorization": "Bearer x"})).status_code == 401
        assert (await api.http.get("/api/users/ada/connections", headers=key)).status_code == 403
        assert (await api.http.get("/api/bg/ada/latest", headers=foreign)).status_code == 404
        assert (await api.http.get("/api/bg/a%0A/latest")).status_code == 401, "no user, and no record"
        await api.services.audit_log.flush()
        headers = {"Authorization": f"Bearer {admin.text.reveal()}"}
        answer = await api.http.get("/api/audit", params=PERIOD, headers=headers)
        assert {(record["action"], record["credential"], record["route"]) for record in answer.json()} == {
            ("refused", "address:127.0.0.1", LATEST),
            ("refused", "address:127.0.0.1", "GET /api/bg/{user_id}"),
            ("refused", f"key:{made.key.id}", "GET /api/users/{user_id}/connections"),
            ("refused", f"key:{other.key.id}", LATEST),
        }


async def test_s10_refusals_are_bounded_per_sender_and_hour(api: ApiHarness) -> None:
    log, before = api.services.audit_log, len(await read_all_items(api.table))
    for number in range(10_000):
        log.add_refusal(UserId(f"user-{number}"), "address:192.0.2.1", LATEST)
    await log.flush()
    recorded = len(await read_all_items(api.table)) - before
    assert 0 < recorded <= audit.MAX_REFUSALS + 1
    for number in range(10_000):
        log.add_refusal(UserId(f"user-{number}"), f"address:2001:db8::{number:x}", LATEST)
    await log.flush()
    seen = len(await read_all_items(api.table))
    assert seen - before <= audit.MAX_REFUSALS + audit.MAX_REFUSED_SENDERS
    log.add_refusal(UserId("ben"), "address:2001:db8::0", LATEST)
    await log.flush()
    assert len(await read_all_items(api.table)) == seen + 1, "a known sender is recorded still"
    api.clock.advance(timedelta(hours=1))
    log.add_refusal(ADA, "address:192.0.2.1", LATEST)
    assert [record["action"] for record in await get_audit(api)] == ["refused"]


async def test_the_credential_is_on_record_and_no_user_id_anywhere() -> None:
    async with open_api(Access.CLOSED, acme=FakeProvider()) as api:
        await api.add_readings(reading(-1))
        made = await api.services.api_keys.create("test", [Scope.READINGS_READ, Scope.ADMIN])
        await anyio.sleep(2)  # until a new key is known
        headers = {"Authorization": f"Bearer {made.text.reveal()}"}
        await api.http.get("/api/bg/ada/latest", headers=headers)
        await api.services.audit_log.flush()
        answer = await api.http.get("/api/audit", params=PERIOD, headers=headers)
        assert [each["credential"] for each in answer.json()] == [f"key:{made.key.id}"]
        kept = {key: item for key, item in (await read_all_items(api.table)).items() if key[0].startswith("audit")}
        assert kept
        assert not re.search(r"\bada\b", str(kept)), "a hash may contain these letters by chance"


async def test_a_tokens_user_is_hashed_too(api: ApiHarness) -> None:
    api.services.audit_log.add(ADA, "token:zoe", LATEST, AuditAction.READ)
    (found,) = await get_audit(api)
    kind, name = found["credential"].split(":")
    assert kind == "token"
    assert len(name) == 32
    assert "zoe" not in name  # no hexadecimal digits, so no hash has them by chance


async def test_the_audit_outlives_an_erasure_and_records_it(api: ApiHarness) -> None:
    await connect(api)
    await get_audit(api)
    assert (await api.http.delete("/api/users/ada")).status_code == 200
    routes = [each["route"] for each in await get_audit(api)]
    assert routes.count("DELETE /api/users/{user_id}") == 1
    assert len(routes) > 2


async def test_who_read_the_audit_is_on_record_too(api: ApiHarness) -> None:
    await get_audit(api)
    await api.services.audit_log.flush()
    answer = await api.http.get("/api/audit", params=PERIOD)
    assert [(each["action"], each["route"]) for each in answer.json()] == [("read", AUDIT)]


async def test_records_are_of_one_person_only_and_go_after_their_time(api: ApiHarness) -> None:
    api.services.audit_log.add(ADA, "key:a", LATEST, AuditAction.CHANGE)
    api.services.audit_log.add(UserId("ben"), "key:b", LATEST, AuditAction.CHANGE)
    assert [each["credential"] for each in await get_audit(api)] == ["key:a"]
    assert [each["credential"] for each in await get_audit(api, user="ben")] == ["key:b"]
    assert await get_audit(api, user="nobody") == []
    kept = [item for key, item in (await read_all_items(api.table)).items() if key[0].startswith("audit#")]
    assert {item["expires_at"] for item in kept} == {int((NOON + timedelta(days=365)).timestamp())}
    api.clock.advance(timedelta(days=365))
    assert await get_audit(api) == []


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
async def test_a_question_that_cannot_be_meant_is_refused(api: ApiHarness, changed: dict[str, str], slug: str) -> None:
    assert_problem(await api.http.get("/api/audit", params=PERIOD | changed), 400, slug)


async def test_two_processes_hash_alike(api: ApiHarness) -> None:
    services = api.services
    twin = audit.AuditLog(api.store.audit, AesGcmSealer([bytes(32)]), api.clock, "test", retention=timedelta(days=1))
    services.audit_log.add(ADA, "key:a", LATEST, AuditAction.CHANGE)
    twin.add(ADA, "key:b", LATEST, AuditAction.CHANGE)
    await twin.flush()
    assert {each["credential"] for each in await get_audit(api)} == {"key:a", "key:b"}
