"""Path of one reading through the service, from the sensor to the consumer."""

from datetime import datetime, timedelta

import anyio
import msgspec
import pytest

from bg_ingest.simulator import SimulatorOptions
from tests.harness.service import START, open_service

pytestmark = pytest.mark.usefixtures("with_and_without_log")

MINUTE = timedelta(minutes=1)


async def test_the_story_of_one_reading() -> None:
    async with open_service(over_http=True, simulated=SimulatorOptions(delay_seconds=30)) as service, service.running():
        # Ada gives access to her sensor, in a browser.
        page = await service.connect("ada", "SandboxUser1")
        assert page.status_code == 200
        assert "on their way" in page.text

        # Her past is read at once, and its newest reading is the answer.
        await anyio.sleep(10)
        before = service.true_values("SandboxUser1", START - timedelta(days=90), START)
        assert [
            (each.reading.measured_at, each.reading.glucose_mg_dl) for each in await service.stored_readings("ada")
        ] == before
        latest = (await service.api.get("/api/bg/ada/latest")).json()
        assert latest == {"timestamp": before[-1][0].strftime("%Y-%m-%dT%H:%M:%SZ"), "glucose_mg_dl": before[-1][1]}

        # Her sensor measures once more. The next due poll fetches, stores and publishes the reading.
        await anyio.sleep(20 * 60)
        fresh = service.true_values("SandboxUser1", before[-1][0] + timedelta(seconds=1), service.clock.now())
        assert len(fresh) >= 3
        events = [msgspec.json.decode(event.body) for event in service.events]
        recorded = [each for event in events for each in event["data"].get("readings", ())]
        assert [datetime.fromisoformat(each["timestamp"]) for each in recorded].count(fresh[0][0]) == 1
        assert (
            next(each for each in recorded if datetime.fromisoformat(each["timestamp"]) == fresh[0][0])["glucose_mg_dl"]
            == fresh[0][1]
        )

        # A query that starts an hour earlier returns every stored reading once.
        hour = (await service.api.get("/api/bg/ada", params={"from": (START - 60 * MINUTE).isoformat()})).json()
        newest = (await service.connection("ada")).newest_reading_at
        assert newest is not None
        assert newest >= fresh[0][0]
        assert [datetime.fromisoformat(each["timestamp"]) for each in hour] == [
            at for at, _ in service.true_values("SandboxUser1", START - 60 * MINUTE, newest)
        ]

        # The numbers of the changes are contiguous, so none was lost.
        numbers = service.event_numbers("ada")
        assert numbers == list(range(1, len(numbers) + 1))
        assert events[0]["type"] == "bg.connection.changed.v1"
