"""Log fault injection: trouble has the same outcome while no line of the log can be written.

The fixture ``with_and_without_log`` does the same for the main stories.
"""

from typing import Any

import anyio
import pytest

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import Failed, Html, Throttled
from tests.fakes.faults import Fault, FaultyCalls
from tests.harness.failing_log import LOG_FAULTS, failing_log
from tests.harness.service import ServiceHarness, open_service
from tests.harness.webhook_sender import envelope, record


@pytest.mark.slow
async def test_f1_trouble_has_the_same_outcome_without_a_log() -> None:
    with failing_log() as dropped:
        expected = await outcome_of_trouble()
    assert not dropped
    with failing_log(LOG_FAULTS) as dropped:
        assert await outcome_of_trouble() == expected
    assert len(dropped) > 10


async def outcome_of_trouble() -> dict[str, Any]:
    """Return all that is visible after hours in which provider, store and polls fail in turn and recover."""
    store_fails = False

    def plan(call: int) -> Fault | None:
        return Fault.BEFORE if store_fails and call % 3 else None

    async with open_service(
        simulated=SimulatorOptions(delay_seconds=30),
        defaults=PollDefaults(backfill_days=1),
        around=lambda table: FaultyCalls(table, plan),
    ) as service:
        async with service.running():
            await service.connect("ada", "SandboxUser1")
            await service.connect("eva", "SandboxUser2")
            await anyio.sleep(600)
            refused = await service.push("ada", b"[]", "msg_0")
            await push_unreadable(service)
            for fault in (Failed(count=3), Throttled(count=1), Html(count=2), Failed(endpoint="token", count=2)):
                service.simulator.add_fault(fault)
                await anyio.sleep(3600)
            store_fails = True
            await anyio.sleep(120)
            failed = await service.api.get("/api/bg/ada/latest")
            store_fails = False
            await anyio.sleep(3600)
            erased = await service.api.delete("/api/users/eva")
            await anyio.sleep(600)
            ready = await service.api.get("/health/ready")
        latest = await service.api.get("/api/bg/ada/latest")
        return {
            "statuses": [answer.status_code for answer in (refused, failed, erased, ready, latest)],
            "latest": latest.json(),
            "readings": [stored.reading for stored in await service.stored_readings("ada")],
            "events": [event["change"] for event in service.event_data_of("ada")],
            "calls": dict(service.simulator.calls),
        }


async def push_unreadable(service: ServiceHarness) -> None:
    newest = (await service.stored_readings("ada"))[-1].reading
    broken = record(newest.measured_at, 120) | {"systemTime": "never"}
    answer = await service.push("ada", envelope(newest.device.provider_account, [broken]), "msg_1")
    assert answer.status_code == 202, answer.text
