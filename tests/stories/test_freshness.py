"""A provider whose delay changes and whose clock is off: the newest reading shown is stored at the next poll."""

from datetime import timedelta

import msgspec
import pytest

from bg_ingest.domain.readings import Origin
from tests.conftest import on
from tests.harness.connected_user import ADA, ConnectedUser, open_connected_user
from tests.harness.service import PROVIDER

anyio_backend = on("asyncio")

CADENCE, INTERVAL = timedelta(minutes=5), timedelta(minutes=15)
READINGS = 20


async def check_live_polls(ada: ConnectedUser, readings: int) -> None:
    """Poll when due until so many readings are new; after each live poll the newest shown reading is ``latest``."""
    simulator, new, report = ada.service.simulator, 0, await ada.poll()
    while new < readings:
        report = await ada.poll_when_due(report)
        if report.origin is not Origin.LIVE:
            continue
        new += report.result.recorded
        shown = simulator.extent("SandboxUser1", simulator.now())
        assert shown is not None
        newest = (await ada.connection()).newest_reading_at
        assert newest is not None
        assert newest >= shown[1].measured_at


@pytest.mark.parametrize("ahead", [timedelta(minutes=minutes) for minutes in (-10, 0, 10)])
async def test_f33_the_delay_is_learned_while_it_changes_and_no_reading_waits(ahead: timedelta) -> None:
    async with open_connected_user(over_http=True, provider_ahead=ahead) as ada:
        simulator = ada.service.simulator
        begun, calls = ada.service.clock.now(), len(ada.service.provider.asked)
        for seconds in (0, 30, 3600, 10_800, 30, 0):
            simulator.options = msgspec.structs.replace(simulator.options, delay_seconds=seconds)
            await check_live_polls(ada, READINGS)
            learned = (await ada.connection()).delay_seconds
            assert learned is not None
            assert abs(timedelta(seconds=learned - seconds)) <= CADENCE
        polls = len(ada.service.provider.asked) - calls
        assert polls <= (ada.service.clock.now() - begun) / INTERVAL + 3  # with sweeps and repairs
        status = await ada.service.api.get(f"/api/users/{ADA.user}/connections/{PROVIDER}")
        assert status.json()["observed_delay_seconds"] == (await ada.connection()).delay_seconds


async def test_f33_a_reading_of_the_last_seconds_is_read_at_the_connect_and_bounds_the_next_polls() -> None:
    async with open_connected_user(over_http=True) as ada:
        connection = await ada.connection()
        assert connection.delay_seconds is not None
        assert connection.newest_reading_at is not None
        report = await ada.poll()
        assert report.due is not None
        assert report.due - ada.service.clock.now() <= INTERVAL + timedelta(seconds=60)
