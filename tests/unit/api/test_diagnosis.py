"""GET timeline shows the reason of a delay; POST verify compares stored readings with the provider's."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from bg_ingest.api.diagnosis import REASON_TEXTS
from bg_ingest.domain.connections import POLLED_STATES, ConnectionState, PollDefaults
from bg_ingest.domain.polling import NextPollReason
from bg_ingest.services.queries import timeline as moments
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import Failed, Late, Revised
from tests.harness.connected_user import ADA, ConnectedUser
from tests.harness.service import START, ServiceHarness, open_service
from tests.harness.webhook_sender import envelope, records

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PATH = f"/api/users/{ADA.user}/connections/{ADA.provider}"


@pytest.fixture
async def service() -> AsyncIterator[ServiceHarness]:
    async with open_service(defaults=PollDefaults(backfill_days=1)) as service:
        yield service


async def get_timeline(service: ServiceHarness, user: str = "ada") -> dict[str, Any]:
    answer = await service.api.get(f"/api/users/{user}/connections/dexcom/timeline")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    ats = [each["at"] for each in shown["events"]]
    assert ats == sorted(ats, reverse=True)
    return shown


def event_kinds(shown: dict[str, Any], *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(each[field] for field in fields) for each in shown["events"]]


@pytest.mark.slow
async def test_while_all_is_well_the_next_slot_is_waited_for(service: ServiceHarness) -> None:
    async with service.running():
        await service.connect("ada")
        await anyio.sleep(2000)
        shown = await get_timeline(service)
    assert (shown["complete"], shown["next"]["why"]) == (True, "slot")
    assert ("polled", "live", "read", 3) in event_kinds(shown, "kind", "origin", "outcome", "readings")
    assert ("recorded", "live", 3) in event_kinds(shown, "kind", "origin", "readings")
    assert {"connected", "refreshed", "state"} <= {each["kind"] for each in shown["events"]}


@pytest.mark.slow
async def test_a_silent_sensor_and_a_failing_provider_are_distinguished(service: ServiceHarness) -> None:
    async with service.running():
        await service.connect("ada")
        at = service.clock.now()
        service.simulator.add_fault(Late(start=at, end=at + 9 * HOUR, shown_at=at + 9 * HOUR))
        await anyio.sleep(3 * 3600)
        silent = await get_timeline(service)
        service.simulator.add_fault(Failed(endpoint="egvs"))
        await service.api.post("/api/users/ada/connections/dexcom/poll")
        await anyio.sleep(10)
        failing = await get_timeline(service)
    assert silent["next"]["why"] == "silence"
    assert ("polled", "nothing_new") in event_kinds(silent, "kind", "outcome")
    assert (failing["next"]["why"], failing["next"]["failures"] > 0) == ("retry", True)
    assert ("polled", "unavailable") in event_kinds(failing, "kind", "outcome")


async def test_another_replica_answers_the_stored_part_and_says_that_it_is_not_all(service: ServiceHarness) -> None:
    await service.connect("ada")  # no actors, so that nothing polls
    stored = await get_timeline(service)
    assert (stored["complete"], stored["next"]["why"]) == (False, "past")
    assert {"connected", "state", "refreshed"} == {each["kind"] for each in stored["events"]}


async def test_pushes_and_a_pause_are_seen(service: ServiceHarness) -> None:
    await service.connect("ada")
    account = (await service.connection("ada")).provider_account
    await service.push("ada", envelope(account, records(service.clock.now() - HOUR, 2)))
    await service.api.patch("/api/users/ada/connections/dexcom/worker", json={"paused": True})
    shown = await get_timeline(service)
    assert (shown["next"]["at"], shown["next"]["why"]) == (None, "paused")
    assert ("recorded", "webhook", 2) in event_kinds(shown, "kind", "origin", "readings")
    assert ("webhook", "read", 2) in event_kinds(shown, "kind", "outcome", "readings")
    assert ("state", "paused") in event_kinds(shown, "kind", "outcome")


async def test_pushes_that_brought_nothing_are_seen(service: ServiceHarness) -> None:
    await service.connect("ada")
    account = (await service.connection("ada")).provider_account
    brought = envelope(account, records(service.clock.now() - HOUR, 2))
    for webhook_id in ("msg_1", "msg_1", "msg_2"):
        await service.push("ada", brought, webhook_id)
    pushes = [
        each for each in event_kinds(await get_timeline(service), "kind", "outcome", "readings") if each[0] == "webhook"
    ]
    assert sorted(pushes) == [("webhook", "duplicate", 0), ("webhook", "nothing_new", 0), ("webhook", "read", 2)]


async def test_nothing_from_before_the_connect_is_remembered_of_who_was_erased(service: ServiceHarness) -> None:
    await service.connect("ada")
    account = (await service.connection("ada")).provider_account
    await service.push("ada", envelope(account, records(service.clock.now() - HOUR, 2)))
    assert (await service.api.delete("/api/users/ada")).status_code == 200
    await anyio.sleep(60)
    await service.connect("ada")
    assert {"connected", "state", "refreshed"} == {each["kind"] for each in (await get_timeline(service))["events"]}


@pytest.mark.slow
async def test_each_refresh_and_each_refusal_is_seen() -> None:
    short = SimulatorOptions(access_token_seconds=900)
    async with open_service(simulated=short, defaults=PollDefaults(backfill_days=1)) as service, service.running():
        await service.connect("ada")
        await anyio.sleep(3600)
        refreshed = [each["at"] for each in (await get_timeline(service))["events"] if each["kind"] == "refreshed"]
        service.simulator.revoke("SandboxUser1")
        await anyio.sleep(2 * 3600)
        refused = [each["detail"] for each in (await get_timeline(service))["events"] if each["kind"] == "refused"]
    assert len({*refreshed}) == len(refreshed) >= 2
    assert refused == [f"{number} times in a row" for number in (3, 2, 1)]


async def test_who_is_unknown_has_none(service: ServiceHarness) -> None:
    assert (await service.api.get("/api/users/nobody/connections/dexcom/timeline")).status_code == 404


@pytest.mark.slow
async def test_those_in_trouble_are_remembered_longest(
    service: ServiceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "MAX_CONNECTIONS", 1)
    async with service.running():
        await service.connect("ada")
        await anyio.sleep(60)
        await service.connect("ben", "SandboxUser2")
        await anyio.sleep(2000)
        assert ("polled", "live") not in event_kinds(await get_timeline(service, "ben"), "kind", "origin")
        service.simulator.add_fault(Failed(endpoint="egvs", count=1))
        await service.api.post("/api/users/ben/connections/dexcom/poll")
        await anyio.sleep(1)
        assert ("polled", "unavailable") in event_kinds(await get_timeline(service, "ben"), "kind", "outcome")


def test_every_reason_of_a_next_poll_has_a_text() -> None:
    """Without a status the answer would be a 500, as it was for connections that waited for the call limit."""
    assert set(REASON_TEXTS) == {*NextPollReason, *(set(ConnectionState) - set(POLLED_STATES))}


def test_the_document_lists_every_reason_of_a_next_poll() -> None:
    document = (Path(__file__).parents[3] / "docs" / "api.md").read_text("utf-8")
    table = document.partition("| `why` |")[2].partition("| `kind` |")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(NextPollReason)


@pytest.fixture
async def ada() -> AsyncIterator[ConnectedUser]:
    async with open_service(defaults=PollDefaults(backfill_days=1)) as service:
        connected = ConnectedUser(service)
        await connected.connect()
        yield connected


async def test_values_are_answered_on_request_only(ada: ConnectedUser) -> None:
    await anyio.sleep((6 * HOUR).total_seconds())
    await ada.poll()
    now = ada.service.clock.now()
    ada.service.simulator.add_fault(Revised(start=now - 4 * HOUR, end=now - 3 * HOUR, revised_at=now, by=9))
    span = {"from": (START - HOUR).isoformat(), "to": (START + 6 * HOUR).isoformat()}
    plain = (await ada.service.api.post(f"{PATH}/verify", json=span)).json()
    shown = (await ada.service.api.post(f"{PATH}/verify", json=span | {"values": True})).json()
    assert {each["kind"] for each in plain["differences"]} == {"other_value"}
    assert {each["stored_mg_dl"] for each in plain["differences"]} == {None}
    assert None not in {each["stored_mg_dl"] for each in shown["differences"]}
    assert [each["measured_at"] for each in plain["differences"]] == [e["measured_at"] for e in shown["differences"]]
    for wrong in ({"from": "2026-03-02"}, {"from": span["to"], "to": span["from"]}, {**span, "more": 1}):
        assert (await ada.service.api.post(f"{PATH}/verify", json=wrong)).status_code == 400
    too_long = {"from": (START - 40 * DAY).isoformat(), "to": START.isoformat()}
    assert (await ada.service.api.post(f"{PATH}/verify", json=too_long)).status_code == 409
    ada.service.simulator.add_fault(Failed(endpoint="egvs"))
    assert (await ada.service.api.post(f"{PATH}/verify", json=span)).status_code == 503


async def test_a_backfill_answers_the_window_that_it_will_read(ada: ConnectedUser) -> None:
    marked = await ada.service.api.post(f"{PATH}/backfill", json={"from": (START - 9 * DAY).isoformat()})
    assert (marked.status_code, marked.json()["from"]) == (202, "2026-02-21T12:00:00Z")
    assert (await ada.service.api.post(f"{PATH}/backfill")).status_code == 202


async def test_times_in_bodies_have_the_form_of_times_in_queries(ada: ConnectedUser) -> None:
    dated = await ada.service.api.post(
        f"{PATH}/backfill", json={"from": "2026-02-21", "to": "2026-02-22T01:00:00+01:00"}
    )
    assert (dated.status_code, dated.json()) == (202, {"from": "2026-02-21T00:00:00Z", "to": "2026-02-22T00:00:00Z"})
    wrong = {
        "invalid-time": ("1800-01-01T00:00:00Z", "1801-01-01T00:00:00Z"),
        "invalid-range": ("2026-02-22", "2026-02-21"),
    }
    for route in ("backfill", "verify"):
        for problem, (start, end) in wrong.items():
            refused = await ada.service.api.post(f"{PATH}/{route}", json={"from": start, "to": end})
            assert (refused.status_code, refused.json()["type"]) == (400, problem)
