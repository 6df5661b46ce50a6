"""POST verify: stored readings compared with the provider's."""

from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import pytest

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.simulator.faults import Failed, Revised
from tests.harness.connected_user import ADA, ConnectedUser
from tests.harness.service import START, open_service

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PATH = f"/api/users/{ADA.user}/connections/{ADA.provider}"


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
