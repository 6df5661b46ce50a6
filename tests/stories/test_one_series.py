"""One person's readings stay one series: through another app of ours, and with several displays of one sensor."""

from datetime import timedelta

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.simulator import SimulatorOptions
from tests.conftest import on
from tests.harness.connected_user import open_connected_user
from tests.harness.service import START, LoopClock, open_service
from tests.harness.webhook_sender import envelope, record

anyio_backend = on("asyncio")
MINUTE = timedelta(minutes=1)


@pytest.mark.usefixtures("with_and_without_log")
async def test_f7_another_app_registration_stores_no_reading_again() -> None:
    async with open_table(None, LoopClock()) as table:
        counts, accounts = [], set()
        for app in ("first-app", "second-app"):
            options = SimulatorOptions(client_id=app)
            async with open_service(table=table, simulated=options, defaults=PollDefaults(backfill_days=1)) as service:
                async with service.running():
                    assert (await service.connect("ada")).status_code == 200
                    await anyio.sleep(30)
                accounts.add((await service.connection("ada")).provider_account)
                answer = await service.api.get("/api/bg/ada?from=2026-03-01T12:00:00Z&devices=all")
                counts.append(len(answer.json()))
                stamps = [row["timestamp"] for row in answer.json()]
                assert len(stamps) == len(set(stamps))
    assert len(accounts) == 2
    assert counts[0] > 200
    assert counts[1] - counts[0] <= 1, "at most the reading of the seconds in between"


@pytest.mark.usefixtures("with_and_without_log")
async def test_f7_another_person_of_the_same_user_is_never_mixed() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=1)) as service, service.running():
        for person in ("SandboxUser1", "SandboxUser2"):
            assert (await service.connect("ada", person)).status_code == 200
            await anyio.sleep(30)
        sensors = {stored.reading.device.sensor for stored in await service.stored_readings("ada")}
        accounts = {stored.reading.device.provider_account for stored in await service.stored_readings("ada")}
        assert len(sensors) >= len(accounts) == 2
        stored = {
            (each.reading.measured_at, each.reading.glucose_mg_dl) for each in await service.stored_readings("ada")
        }
        for person in ("SandboxUser1", "SandboxUser2"):
            shown = service.true_values(person, START - timedelta(hours=20), START - timedelta(hours=1))
            assert set(shown) <= stored


async def test_f22_phone_and_watch_are_one_series_in_latest_range_and_completeness() -> None:
    async with open_connected_user() as ada:
        service, account = ada.service, (await ada.connection()).provider_account
        begins = START - timedelta(days=10)
        pushed = []
        for slot in range(100):
            at = begins + slot * 5 * MINUTE
            pushed.append(record(at, 110, displayDevice="iOS"))
            pushed.append(record(at + timedelta(seconds=9), 112, displayDevice="watch"))
        assert (await service.push("ada", envelope(account, pushed))).status_code == 202
        window = f"from={begins:%Y-%m-%dT%H:%M:%SZ}&to={begins + 500 * MINUTE:%Y-%m-%dT%H:%M:%SZ}"
        one = (await service.api.get(f"/api/bg/ada?{window}")).json()
        both = (await service.api.get(f"/api/bg/ada?{window}&devices=all")).json()
        full = (await service.api.get(f"/api/bg/ada?{window}&view=full")).json()
        assert (len(one), len(full), len(both)) == (100, 100, 200)
        assert {row["glucose_mg_dl"] for row in one} == {110}
        days = (await service.api.get(f"/api/bg/ada/completeness?{window}")).json()
        assert sum(day["stored"] for day in days) == 100
        newest = service.clock.now().replace(microsecond=0) - 5 * timedelta(seconds=1)
        pushed = [record(newest, 140, displayDevice="watch"), record(newest - timedelta(seconds=9), 141)]
        assert (await service.push("ada", envelope(account, pushed), "msg_2")).status_code == 202
        latest = (await service.api.get("/api/bg/ada/latest")).json()
        assert latest == (await service.api.get("/api/bg/ada")).json()[-1]
        assert latest["glucose_mg_dl"] == 141
