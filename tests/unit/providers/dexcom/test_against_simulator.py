"""Dexcom's client with the simulated Dexcom over HTTP, as with the real one."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from bg_ingest.domain.grants import Credentials, Secret
from bg_ingest.domain.windows import Window
from bg_ingest.errors import GrantRejected, ProviderMisbehaved, ProviderThrottled, ProviderUnavailable
from bg_ingest.ports import Priority
from bg_ingest.providers.dexcom import DexcomOptions
from bg_ingest.providers.dexcom.client import Dexcom
from bg_ingest.providers.http_client import http_client
from bg_ingest.simulator import Simulator, SimulatorOptions, create_simulator
from tests.fakes.clock import SetClock
from tests.harness.dexcom_answers import exchange, login_url, tokens_of

BASE = "http://simulator.test"
REDIRECT_URI = "http://localhost:5001/api/oauth/dexcom/callback"
DAY = timedelta(days=1)


class World:
    """A simulator, a provider connected to it, and the time of both."""

    def __init__(self) -> None:
        simulated = SimulatorOptions()
        self.clock = SetClock()
        app = create_simulator(simulated, now=self.clock.now)
        self.simulator: Simulator = app.state.simulator
        self.http = http_client(httpx.ASGITransport(app=cast("Any", app)))
        self.provider = Dexcom(
            DexcomOptions(
                client_id=simulated.client_id,
                client_secret=Secret(simulated.client_secret),
                redirect_uri=REDIRECT_URI,
                base_url=BASE,
                delay=timedelta(seconds=simulated.delay_seconds),
            ),
            self.http,
            self.http,
            self.clock,
        )

    async def code(self, user: str) -> str:
        """Log a person in, as a browser would."""
        url = await login_url(self.provider, "us", "a state & more")
        back = await self.http.get(f"{url}&user={user}")
        parameters = parse_qs(urlsplit(back.headers["location"]).query)
        assert parameters["state"] == ["a state & more"]
        return parameters["code"][0]

    async def connect(self, user: str) -> Credentials:
        return await exchange(self.provider, "us", await self.code(user))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with world.http:
        yield world


async def read(world: World, credentials: Credentials, window: Window) -> list[tuple[Any, ...]]:
    page = await world.provider.readings("us", credentials, window, Priority.BACKFILL)
    assert not page.unreadable
    return [
        (
            each.measured_at,
            each.glucose_mg_dl,
            each.flag,
            each.trend,
            each.trend_rate_mg_dl_min,
            each.utc_offset_seconds,
            each.device.transmitter,
            each.device.display,
            each.device.generation,
        )
        for each in page.readings
    ]


def truth(world: World, user: str, start: datetime, end: datetime) -> list[tuple[Any, ...]]:
    return [
        (
            each.measured_at,
            each.glucose_mg_dl,
            each.flag,
            each.trend,
            each.trend_rate,
            each.utc_offset_seconds,
            each.transmitter_id,
            each.display_device,
            each.generation,
        )
        for each in world.simulator.truth(user, start, end, world.clock.now())
    ]


@pytest.mark.slow
@pytest.mark.parametrize("user", ["SandboxUser3", "SandboxUser4", "SandboxUser5", "SandboxUser6"])
async def test_thirty_days_of_lows_a_receiver_a_traveller_and_highs_are_read_as_they_truly_are(
    world: World, user: str
) -> None:
    credentials = await world.connect(user)
    available = await world.provider.available("us", credentials, Priority.LIVE)
    assert available.data_range is not None
    window = available.data_range.newest(30 * DAY)
    read_back = await read(world, credentials, window)
    assert read_back == truth(world, user, window.start, window.end)
    assert len(read_back) > 7000
    assert read_back[-1][0] == available.data_range.end - timedelta(seconds=1)


async def test_case_15_a_boundary_is_in_both_windows(world: World) -> None:
    credentials = await world.connect("SandboxUser1")
    boundary = truth(world, "SandboxUser1", world.clock.now() - DAY, world.clock.now())[0]
    before = await read(world, credentials, Window(boundary[0] - DAY, boundary[0]))
    after = await read(world, credentials, Window(boundary[0], boundary[0] + timedelta(hours=1)))
    assert before[-1] == after[0] == boundary


async def test_a_refresh_rotates_the_pair_and_the_old_one_is_refused(world: World) -> None:
    first = await world.connect("SandboxUser1")
    second = await world.provider.renew("us", first)
    assert tokens_of(second).access != tokens_of(first).access
    assert tokens_of(second).refresh != tokens_of(first).refresh
    assert (await world.provider.available("us", second, Priority.LIVE)).data_range
    with pytest.raises(GrantRejected):
        await world.provider.renew("us", first)


async def test_a_code_is_good_once(world: World) -> None:
    code = await world.code("SandboxUser1")
    await exchange(world.provider, "us", code)
    with pytest.raises(GrantRejected):
        await exchange(world.provider, "us", code)


async def test_case_02_an_access_token_that_ended_is_refused_and_a_refresh_helps(world: World) -> None:
    credentials = await world.connect("SandboxUser1")
    assert credentials.expires_at == world.clock.now() + timedelta(hours=2)
    world.clock.advance(timedelta(hours=2, seconds=1))
    with pytest.raises(GrantRejected):
        await world.provider.available("us", credentials, Priority.LIVE)
    fresh = await world.provider.renew("us", credentials)
    assert (await world.provider.available("us", fresh, Priority.LIVE)).data_range


async def test_case_10_a_user_who_takes_the_grant_back_is_a_refusal(world: World) -> None:
    credentials = await world.connect("SandboxUser1")
    world.simulator.revoke("SandboxUser1")
    with pytest.raises(GrantRejected):
        await world.provider.available("us", credentials, Priority.LIVE)
    with pytest.raises(GrantRejected):
        await world.provider.renew("us", credentials)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "throttled", "retry_after": 30}, ProviderThrottled),
        ({"kind": "throttled", "retry_after": 30, "as_date": True}, ProviderThrottled),
        ({"kind": "failed", "status": 503}, ProviderUnavailable),
        ({"kind": "reset"}, ProviderUnavailable),
        ({"kind": "html"}, ProviderMisbehaved),
        ({"kind": "truncated"}, ProviderMisbehaved),
    ],
)
async def test_faults_become_the_errors_of_their_remedies(
    world: World, fault: dict[str, Any], error: type[Exception]
) -> None:
    credentials = await world.connect("SandboxUser1")
    added = await world.http.post(f"{BASE}/admin/faults", json=fault)
    assert added.status_code == 201, added.text
    window = Window(world.clock.now() - DAY, world.clock.now())
    with pytest.raises(error) as raised:
        await world.provider.readings("us", credentials, window, Priority.LIVE)
    if isinstance(raised.value, ProviderThrottled):
        assert raised.value.wait == timedelta(seconds=30)


@pytest.mark.slow
async def test_a_shuffled_page_with_duplicates_is_read_as_the_truth(world: World) -> None:
    credentials = await world.connect("SandboxUser1")
    for kind in ("duplicated", "shuffled"):
        added = await world.http.post(f"{BASE}/admin/faults", json={"kind": kind})
        assert added.status_code == 201, added.text
    window = Window(world.clock.now() - DAY, world.clock.now())
    assert await read(world, credentials, window) == truth(world, "SandboxUser1", window.start, window.end)
