"""Answers in Dexcom's form, and a provider that receives them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from bg_ingest.domain.grants import Credentials, Secret
from bg_ingest.ports import Answers, Done, Page, Provider, Redirect
from bg_ingest.providers.dexcom import DexcomOptions
from bg_ingest.providers.dexcom.client import Dexcom
from bg_ingest.providers.dexcom.oauth import Tokens, parse_tokens
from bg_ingest.providers.dexcom.page import PageBuilder
from bg_ingest.providers.dexcom.translate import translate_records
from bg_ingest.providers.dexcom.wire import Envelope, decode_envelope
from bg_ingest.providers.http_client import http_client
from tests.fakes.clock import NOON, SetClock

GOLDEN = Path(__file__).parents[1] / "golden" / "dexcom"
USER = "9f1c2b7ad04e5566778899aabbccddeeff00112233445566778899aabbccddee"
TRANSMITTER = "c56b4d3f1a2e9087c56b4d3f1a2e9087c56b4d3f1a2e9087c56b4d3f1a2e9087"
ACCESS, REFRESH = "access-token-1", "refresh-token-1"
TOKENS = Tokens(Secret(ACCESS), Secret(REFRESH), NOON + timedelta(hours=1))
CREDENTIALS = TOKENS.to_credentials()
OPTIONS = DexcomOptions(
    client_id="our-app", client_secret=Secret("our-secret"), redirect_uri="https://app.test/callback?next=a b"
)
EARLY = datetime(2026, 3, 2, 6, tzinfo=UTC)
ABSENT: Any = object()

Answer = Callable[[httpx.Request], Any]


def record(**changed: Any) -> dict[str, Any]:
    """Return a record of a G7 and an iPhone at 06:00 with some fields replaced; ABSENT removes a field."""
    usual = {
        "recordId": "r1",
        "systemTime": "2026-03-02T06:00:00Z",
        "displayTime": "2026-03-01T22:00:00-08:00",
        "transmitterId": TRANSMITTER,
        "transmitterTicks": 5400,
        "value": 120,
        "status": "ok",
        "trend": "flat",
        "trendRate": 0.1,
        "unit": "mg/dL",
        "rateUnit": "mg/dL/min",
        "displayDevice": "iOS",
        "transmitterGeneration": "g7",
    }
    return {name: value for name, value in (usual | changed).items() if value is not ABSENT}


def egvs(*records: Any, **changed: Any) -> bytes:
    """Return a page of records."""
    envelope = {"recordType": "egv", "recordVersion": "3.0", "userId": USER, "records": list(records)} | changed
    return json.dumps({name: value for name, value in envelope.items() if value is not ABSENT}).encode()


def decode_page(content: bytes, now: datetime) -> Page:
    return build_page(decode_envelope(content), now)


def build_page(envelope: Envelope, now: datetime) -> Page:
    """Translate all records of an answer."""
    builder = PageBuilder(envelope.user_id)
    for record in translate_records(envelope, now):
        builder.add(record)
    return builder.build()


def token_pair(**changed: Any) -> bytes:
    """Return an answer of the token endpoint."""
    usual = {"access_token": ACCESS, "refresh_token": REFRESH, "expires_in": 7200, "token_type": "Bearer"} | changed
    return json.dumps({name: value for name, value in usual.items() if value is not ABSENT}).encode()


class ScriptedDexcom:
    """Provider with calls answered by a function; records the requests."""

    def __init__(self, answer: Answer, options: DexcomOptions = OPTIONS, clock: SetClock | None = None) -> None:
        self.requests: list[httpx.Request] = []
        self.clock = clock or SetClock()
        self._answer = answer
        self.http = http_client(httpx.MockTransport(self._take))
        self.provider = Dexcom(options, self.http, self.http, self.clock)

    async def _take(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answer(request)
        response = answer if isinstance(answer, httpx.Response) else await answer
        assert isinstance(response, httpx.Response)
        return response

    @property
    def form(self) -> dict[str, str]:
        """Fields of the last request."""
        return dict(httpx.QueryParams(self.requests[-1].content.decode()))


def scripted_answer(status: int, content: bytes = b"", **headers: str) -> ScriptedDexcom:
    """Return a provider with one fixed answer."""
    return ScriptedDexcom(lambda _: httpx.Response(status, content=content, headers=headers))


async def exchange(provider: Provider, region: str, code: str) -> Credentials:
    """Finish a connect with the callback's code."""
    step = await provider.connect(region, Answers("state", {"code": code}))
    assert isinstance(step, Done)
    return step.credentials


async def login_url(provider: Provider, region: str, state: str) -> str:
    """Begin a connect; return the address of the login page."""
    step = await provider.connect(region, Answers(state))
    assert isinstance(step, Redirect)
    return step.url


def tokens_of(credentials: Credentials) -> Tokens:
    return parse_tokens(credentials.content)
