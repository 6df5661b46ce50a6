"""Dexcom with calls that go to a ``Simulator`` directly: its tokens, readings and faults, without HTTP."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio.lowlevel
import httpx

from bg_ingest.domain.grants import REFRESH_DEADLINE, Credentials, Secret
from bg_ingest.domain.windows import Window
from bg_ingest.ports import AccountData, Answers, Clock, ConnectStep, Done, Page, Priority
from bg_ingest.providers.dexcom import DexcomOptions
from bg_ingest.providers.dexcom.client import DATA_DEADLINE, Dexcom
from bg_ingest.providers.dexcom.oauth import Tokens, parse_tokens
from bg_ingest.providers.dexcom.translate import decode_data_range
from bg_ingest.providers.dexcom.wire import decode_envelope, decode_token_pair, read_body, read_token_body
from bg_ingest.providers.http import translate_transport_errors
from bg_ingest.providers.http_client import http_client
from bg_ingest.simulator import Simulator
from bg_ingest.simulator.data import get_data_range, get_egvs
from bg_ingest.simulator.oauth import post_token
from bg_ingest.simulator.replies import ConnectionLost, Reply
from tests.harness.dexcom_answers import build_page


class SimulatedProvider(Dexcom):
    """Capabilities, login address, credentials and pushes are those of ``Dexcom``; its own client sends nothing.

    Statuses and broken connections raise the errors of the port by the functions that ``Dexcom`` uses.
    """

    def __init__(self, options: DexcomOptions, simulator: Simulator, clock: Clock) -> None:
        http = http_client(httpx.MockTransport(_refuse))
        super().__init__(options, http, http, clock)
        self._client = {
            "client_id": options.client_id,
            "client_secret": options.client_secret.reveal(),
            "redirect_uri": options.redirect_uri,
        }
        self._simulator = simulator
        self._now = clock.now

    async def connect(self, region: str, answers: Answers) -> ConnectStep:
        if code := answers.values.get("code"):
            return Done(await self._request_tokens(grant_type="authorization_code", code=code))
        return await super().connect(region, answers)

    async def renew(self, region: str, credentials: Credentials) -> Credentials:
        refresh = parse_tokens(credentials.content).refresh.reveal()
        return await self._request_tokens(grant_type="refresh_token", refresh_token=refresh)

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> AccountData:
        bearer = _authorization(credentials)
        response = await _call(DATA_DEADLINE, lambda: get_data_range(self._simulator, bearer))
        return decode_data_range(read_body(response, self._now()), self._now())

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        bearer = _authorization(credentials)
        dates = [f"{instant:%Y-%m-%dT%H:%M:%S}" for instant in (window.start, window.end)]
        response = await _call(DATA_DEADLINE, lambda: get_egvs(self._simulator, bearer, *dates))
        page = decode_envelope(read_body(response, self._now()))
        return build_page(page, self._now())

    async def _request_tokens(self, **form: str) -> Credentials:
        asked_at = self._now()
        response = await _call(REFRESH_DEADLINE, lambda: post_token(self._simulator, self._client | form))
        pair = decode_token_pair(read_token_body(response, self._now()))
        expires_at = asked_at + timedelta(seconds=pair.expires_in)
        return Tokens(Secret(pair.access_token), Secret(pair.refresh_token), expires_at).to_credentials()


async def _call(deadline: timedelta, call: Callable[[], Awaitable[Reply]]) -> httpx.Response:
    """Make one call. It can be cancelled before and after the simulator executes it, as on a connection."""
    with translate_transport_errors(deadline):
        await anyio.lowlevel.checkpoint()
        reply = await call()
        await anyio.lowlevel.checkpoint()
        if reply.sent is not None:
            raise ConnectionLost("The simulator was asked to break this connection.")
        return httpx.Response(reply.status, headers=dict(reply.headers), content=reply.body)


def _authorization(credentials: Credentials) -> str:
    return f"Bearer {parse_tokens(credentials.content).access.reveal()}"


def _refuse(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"No call to {request.url.host} may use HTTP.")
