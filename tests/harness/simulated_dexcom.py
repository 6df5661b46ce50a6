"""Simulated Dexcom as the service calls it: its provider, and the login of a person."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple, cast

import httpx

from bg_ingest.domain.grants import Secret
from bg_ingest.ports import Clock, Provider
from bg_ingest.providers.dexcom import DexcomOptions
from bg_ingest.providers.dexcom.client import Dexcom
from bg_ingest.providers.http_client import http_client
from bg_ingest.simulator import Simulator
from bg_ingest.simulator.oauth import approve, parse_login
from tests.fakes.simulated_provider import SimulatedProvider
from tests.harness.shared_apps import borrow_simulator


class SimulatedDexcom(NamedTuple):
    provider: Provider
    log_in: Callable[[httpx.URL], Awaitable[httpx.URL]]
    """Approves the login at an address, whose ``user`` names the person; returns the address of the redirect."""


@asynccontextmanager
async def open_dexcom(simulator: Simulator, clock: Clock, *, over_http: bool) -> AsyncIterator[SimulatedDexcom]:
    """Open a simulator directly, or Dexcom's client over the HTTP application of that simulator."""
    options = DexcomOptions(
        client_id=simulator.options.client_id,
        client_secret=Secret(simulator.options.client_secret),
        redirect_uri="https://ingest.test/api/oauth/dexcom/callback",
        base_url="http://simulator.test",
        delay=timedelta(seconds=simulator.options.delay_seconds),
    )
    if not over_http:
        yield _connect_directly(simulator, options, clock)
        return
    with borrow_simulator(simulator) as app:
        transport = httpx.ASGITransport(app=cast("Any", app))
        async with http_client(transport) as http, httpx.AsyncClient(transport=transport) as browser:

            async def log_in(login: httpx.URL) -> httpx.URL:
                return httpx.URL((await browser.get(login)).headers["location"])

            yield SimulatedDexcom(Dexcom(options, http, http, clock), log_in)


def _connect_directly(simulator: Simulator, options: DexcomOptions, clock: Clock) -> SimulatedDexcom:
    async def log_in(login: httpx.URL) -> httpx.URL:
        query = dict(login.params)
        redirect = approve(simulator, parse_login(query, simulator.options), query["user"])
        return httpx.URL(redirect.headers["location"])

    return SimulatedDexcom(SimulatedProvider(options, simulator, clock), log_in)
