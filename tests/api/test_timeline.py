"""GET timeline answers why a user is late."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import pytest

from bg_ingest.domain.connections import Defaults
from bg_ingest.services import moments
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import Failed, Late
from tests.house import House, house
from tests.sender import envelope, records

HOUR = timedelta(hours=1)


@pytest.fixture
async def opened() -> AsyncIterator[House]:
    async with house(defaults=Defaults(backfill_days=1)) as opened:
        yield opened


async def asked(opened: House, user: str = "ada") -> dict[str, Any]:
    answer = await opened.api.get(f"/api/users/{user}/connections/dexcom/timeline")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    ats = [each["at"] for each in shown["moments"]]
    assert ats == sorted(ats, reverse=True)
    return shown


def kinds(shown: dict[str, Any], *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(each[field] for field in fields) for each in shown["moments"]]


async def test_while_all_is_well_the_next_slot_is_waited_for(opened: House) -> None:
    async with opened.running():
        await opened.connect("ada")
        await anyio.sleep(2000)
        shown = await asked(opened)
    assert (shown["complete"], shown["next"]["why"]) == (True, "slot")
    assert ("looked", "live", "read", 3) in kinds(shown, "what", "origin", "outcome", "readings")
    assert ("recorded", "live", 3) in kinds(shown, "what", "origin", "readings")
    assert {"connected", "refreshed", "state"} <= {each["what"] for each in shown["moments"]}


async def test_a_silent_sensor_and_a_failing_provider_are_told_apart(opened: House) -> None:
    async with opened.running():
        await opened.connect("ada")
        at = opened.clock.now()
        opened.simulator.add_fault(Late(start=at, end=at + 9 * HOUR, shown_at=at + 9 * HOUR))
        await anyio.sleep(3 * 3600)
        silent = await asked(opened)
        opened.simulator.add_fault(Failed(endpoint="egvs"))
        await opened.api.post("/api/users/ada/connections/dexcom/poll")
        await anyio.sleep(10)
        failing = await asked(opened)
    assert silent["next"]["why"] == "silence"
    assert ("looked", "nothing_new") in kinds(silent, "what", "outcome")
    assert (failing["next"]["why"], failing["next"]["failures"] > 0) == ("retry", True)
    assert ("looked", "unavailable") in kinds(failing, "what", "outcome")


async def test_another_replica_tells_what_is_stored_and_says_that_it_is_not_all(opened: House) -> None:
    await opened.connect("ada")  # no actors: nobody polls here
    stored = await asked(opened)
    assert (stored["complete"], stored["next"]["why"]) == (False, "past")
    assert {"connected", "state", "refreshed"} == {each["what"] for each in stored["moments"]}


async def test_pushes_and_a_pause_are_seen(opened: House) -> None:
    await opened.connect("ada")
    account = (await opened.connection("ada")).provider_account
    await opened.push("ada", envelope(account, records(opened.clock.now() - HOUR, 2)))
    await opened.api.patch("/api/users/ada/connections/dexcom/worker", json={"paused": True})
    shown = await asked(opened)
    assert (shown["next"]["at"], shown["next"]["why"]) == (None, "paused")
    assert ("recorded", "webhook", 2) in kinds(shown, "what", "origin", "readings")
    assert ("pushed", "read", 2) in kinds(shown, "what", "outcome", "readings")
    assert ("state", "paused") in kinds(shown, "what", "outcome")


async def test_pushes_that_brought_nothing_are_seen(opened: House) -> None:
    await opened.connect("ada")
    account = (await opened.connection("ada")).provider_account
    brought = envelope(account, records(opened.clock.now() - HOUR, 2))
    for webhook_id in ("msg_1", "msg_1", "msg_2"):
        await opened.push("ada", brought, webhook_id)
    pushes = [each for each in kinds(await asked(opened), "what", "outcome", "readings") if each[0] == "pushed"]
    assert sorted(pushes) == [("pushed", "duplicate", 0), ("pushed", "nothing_new", 0), ("pushed", "read", 2)]


async def test_nothing_from_before_the_connect_is_remembered_of_who_was_erased(opened: House) -> None:
    await opened.connect("ada")
    account = (await opened.connection("ada")).provider_account
    await opened.push("ada", envelope(account, records(opened.clock.now() - HOUR, 2)))
    assert (await opened.api.delete("/api/users/ada")).status_code == 200
    await anyio.sleep(60)
    await opened.connect("ada")
    assert {"connected", "state", "refreshed"} == {each["what"] for each in (await asked(opened))["moments"]}


async def test_each_refresh_and_each_refusal_is_seen() -> None:
    short = SimulatorOptions(access_token_seconds=900)
    async with house(simulated=short, defaults=Defaults(backfill_days=1)) as opened, opened.running():
        await opened.connect("ada")
        await anyio.sleep(3600)
        refreshed = [each["at"] for each in (await asked(opened))["moments"] if each["what"] == "refreshed"]
        opened.simulator.revoke("SandboxUser1")
        await anyio.sleep(2 * 3600)
        refused = [each["detail"] for each in (await asked(opened))["moments"] if each["what"] == "refused"]
    assert len({*refreshed}) == len(refreshed) >= 2
    assert refused == [f"{number} times in a row" for number in (3, 2, 1)]


async def test_who_is_unknown_has_none(opened: House) -> None:
    assert (await opened.api.get("/api/users/nobody/connections/dexcom/timeline")).status_code == 404


async def test_those_in_trouble_are_remembered_longest(opened: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "MOST_REMEMBERED", 1)
    async with opened.running():
        await opened.connect("ada")
        await anyio.sleep(60)
        await opened.connect("ben", "SandboxUser2")
        await anyio.sleep(2000)
        assert ("looked", "live") not in kinds(await asked(opened, "ben"), "what", "origin")
        opened.simulator.add_fault(Failed(endpoint="egvs", count=1))
        await opened.api.post("/api/users/ben/connections/dexcom/poll")
        await anyio.sleep(1)
        assert ("looked", "unavailable") in kinds(await asked(opened, "ben"), "what", "outcome")
