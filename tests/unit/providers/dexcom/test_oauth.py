"""Login address, and requests to the token endpoint: sent once, with no conclusion beyond the answer."""

import importlib
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import msgspec
import pytest

from bg_ingest.domain.grants import Renewal, Secret, SecretBytes
from bg_ingest.errors import (
    GrantRejected,
    ProviderError,
    ProviderForbidden,
    ProviderMisbehaved,
    ProviderThrottled,
    ProviderUnavailable,
)
from bg_ingest.providers.dexcom.client import Dexcom
from bg_ingest.providers.dexcom.oauth import parse_tokens
from bg_ingest.providers.http_client import http_client
from tests.fakes.clock import NOON, SetClock
from tests.harness.dexcom_answers import (
    ABSENT,
    CREDENTIALS,
    GOLDEN,
    OPTIONS,
    REFRESH,
    TOKENS,
    ScriptedDexcom,
    exchange,
    login_url,
    scripted_answer,
    token_pair,
    tokens_of,
)

ODD_LIFETIMES: list[Any] = [ABSENT, None, 0, -1, "", "soon", [], {}, "inf", "nan", "1e999", True]
SECRETS = ("our-secret", REFRESH, "the-code", "new-access", "new-refresh")


def test_authlib_is_built_on_the_httpx_we_use() -> None:
    authlib = importlib.import_module("authlib.integrations.httpx_client")  # imported already, by the code under test
    assert issubclass(authlib.AsyncOAuth2Client, httpx.AsyncClient)


def test_authlib_prints_no_warning_at_a_start() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "always", "-c", "import bg_ingest.providers.dexcom.client"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "httpx2" not in ran.stderr


@pytest.mark.parametrize(
    ("base_url", "region", "login"),
    [
        (None, "us", "https://api.dexcom.com/v3/oauth2/login"),
        (None, "ou", "https://api.dexcom.eu/v3/oauth2/login"),
        (None, "jp", "https://api.dexcom.jp/v3/oauth2/login"),
        (None, "sandbox", "https://sandbox-api.dexcom.com/v3/oauth2/login"),
        ("http://localhost:5001/simulator", "jp", "http://localhost:5001/simulator/v3/oauth2/login"),
    ],
)
async def test_a_person_is_sent_to_their_regions_login(base_url: str | None, region: str, login: str) -> None:
    given = ScriptedDexcom(lambda _: None, msgspec.structs.replace(OPTIONS, base_url=base_url))
    url = await login_url(given.provider, region, "a state & more")
    assert url.partition("?")[0] == login
    assert parse_qs(urlsplit(url).query) == {
        "client_id": ["our-app"],
        "redirect_uri": ["https://app.test/callback?next=a b"],
        "response_type": ["code"],
        "scope": ["offline_access"],
        "state": ["a state & more"],
    }
    assert "our-secret" not in url


async def test_a_code_is_traded_with_the_client_secret_in_the_form() -> None:
    given = scripted_answer(200, token_pair())
    credentials = await exchange(given.provider, "ou", "the+code/&=")
    assert str(given.requests[-1].url) == "https://api.dexcom.eu/v3/oauth2/token"
    assert "authorization" not in given.requests[-1].headers
    assert given.requests[-1].headers["content-type"].startswith("application/x-www-form-urlencoded")
    assert given.form == {
        "grant_type": "authorization_code",
        "code": "the+code/&=",
        "redirect_uri": OPTIONS.redirect_uri,
        "client_id": "our-app",
        "client_secret": "our-secret",
    }
    assert tokens_of(credentials) == msgspec.structs.replace(TOKENS, expires_at=NOON + timedelta(hours=2))


async def test_a_refresh_token_is_traded_for_the_next_pair() -> None:
    given = scripted_answer(200, token_pair(access_token="new-access", refresh_token="new-refresh"))
    credentials = await given.provider.renew("us", CREDENTIALS)
    assert given.form == {
        "grant_type": "refresh_token",
        "refresh_token": REFRESH,
        "redirect_uri": OPTIONS.redirect_uri,
        "client_id": "our-app",
        "client_secret": "our-secret",
    }
    tokens = tokens_of(credentials)
    assert (tokens.access, tokens.refresh) == (Secret("new-access"), Secret("new-refresh"))


async def test_the_life_of_a_token_counts_from_before_the_call() -> None:
    given = ScriptedDexcom(lambda _: slow())

    async def slow() -> httpx.Response:
        await anyio.sleep(25)
        given.clock.advance(timedelta(seconds=25))
        return httpx.Response(200, content=token_pair())

    assert (await given.provider.renew("us", CREDENTIALS)).expires_at == NOON + timedelta(hours=2)


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (7200, 7200),
        ("7200", 7200),
        ("600.5", 600),
        (600.5, 600),
        (7_200_000, 86_400),
        *((odd, 7200) for odd in ODD_LIFETIMES),
    ],
)
async def test_case_08_a_pair_is_never_lost_to_an_odd_expiry(expires_in: Any, seconds: int) -> None:
    given = scripted_answer(200, token_pair(expires_in=expires_in))
    assert (await given.provider.renew("us", CREDENTIALS)).expires_at == NOON + timedelta(seconds=seconds)


async def test_case_08_unknown_fields_are_ignored() -> None:
    credentials = await exchange(scripted_answer(200, (GOLDEN / "token.json").read_bytes()).provider, "us", "the-code")
    assert tokens_of(credentials).refresh == Secret("6f1ed1f6-example")


@pytest.mark.parametrize(
    "content",
    [
        token_pair(refresh_token=ABSENT),
        token_pair(refresh_token=None),
        token_pair(refresh_token=""),
        token_pair(refresh_token="new\nline"),
        token_pair(access_token=ABSENT),
        token_pair(access_token="žluťoučký"),
        b'{"error":"invalid_grant"}',
        b"<html>Sign in</html>",
        b"",
        b"[]",
    ],
)
async def test_case_08_a_200_without_both_tokens_is_misbehaviour(content: bytes) -> None:
    for trade in scripted_trades(scripted_answer(200, content)):
        with pytest.raises(ProviderMisbehaved):
            await trade


def scripted_trades(given: ScriptedDexcom) -> tuple[Any, Any]:
    return given.provider.renew("us", CREDENTIALS), exchange(given.provider, "us", "the-code")


def error(word: Any) -> bytes:
    return json.dumps({"error": word, "error_description": f"{REFRESH} is dead"}).encode()


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (400, error("invalid_grant"), GrantRejected),
        (401, error("invalid_grant"), GrantRejected),
        (403, error("invalid_grant"), ProviderMisbehaved),
        (400, error("invalid_request"), ProviderMisbehaved),
        (400, error("unsupported_grant_type"), ProviderMisbehaved),
        (400, error({"code": "invalid_grant"}), ProviderMisbehaved),
        (400, b'"invalid_grant"', ProviderMisbehaved),
        (400, b"", ProviderMisbehaved),
        (400, b"<html>invalid_grant</html>", ProviderMisbehaved),
        (401, b"", ProviderMisbehaved),
        (403, b"<html>blocked</html>", ProviderMisbehaved),
        (404, token_pair(), ProviderMisbehaved),
        (302, b"", ProviderMisbehaved),
        (401, error("invalid_client"), ProviderForbidden),
        (400, error("invalid_client"), ProviderForbidden),
        (400, error("unauthorized_client"), ProviderForbidden),
        (429, error("invalid_grant"), ProviderThrottled),
        (500, error("invalid_grant"), ProviderUnavailable),
        (503, b"<html>", ProviderUnavailable),
    ],
)
async def test_case_03_04_only_the_word_invalid_grant_blames_the_grant(
    status: int, content: bytes, expected: type[ProviderError]
) -> None:
    given = scripted_answer(status, content)
    for number, trade in enumerate(scripted_trades(given), 1):
        with pytest.raises(ProviderError) as raised:
            await trade
        assert type(raised.value) is expected
        assert expected is not ProviderMisbehaved or str(status) in str(raised.value)
        assert REFRESH not in str(raised.value)
        assert len(given.requests) == number


@pytest.mark.parametrize("failure", [httpx.ReadError(""), httpx.ReadTimeout(""), httpx.ConnectError("")])
async def test_case_05_a_trade_without_an_answer_is_not_sent_again(failure: httpx.TransportError) -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise failure

    given = ScriptedDexcom(broken)
    with pytest.raises(ProviderUnavailable):
        await given.provider.renew("us", CREDENTIALS)
    assert len(given.requests) == 1


async def test_case_05_a_trade_is_waited_for_half_a_minute() -> None:
    async def answer_after(seconds: float) -> httpx.Response:
        await anyio.sleep(seconds)
        return httpx.Response(200, content=token_pair())

    late = await ScriptedDexcom(lambda _: answer_after(29)).provider.renew("us", CREDENTIALS)
    assert tokens_of(late).refresh == TOKENS.refresh
    with pytest.raises(ProviderUnavailable, match="30 seconds"):
        await ScriptedDexcom(lambda _: answer_after(31)).provider.renew("us", CREDENTIALS)


async def test_trades_at_the_same_time_do_not_get_each_others_pair() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        sent = dict(httpx.QueryParams(request.content.decode()))["code"]
        await anyio.sleep(1 / len(sent))
        return httpx.Response(200, content=token_pair(access_token=f"of-{sent}"))

    given = ScriptedDexcom(answer)
    got: dict[str, Secret] = {}

    async def trade(code: str) -> None:
        got[code] = tokens_of(await exchange(given.provider, "us", code)).access

    async with anyio.create_task_group() as tasks:
        for code in ("a", "bb", "ccc"):
            tasks.start_soon(trade, code)
    assert got == {code: Secret(f"of-{code}") for code in ("a", "bb", "ccc")}


class TestOnASocket:
    """Libraries log at every level only if bytes go through a connection."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    async def address(self) -> AsyncIterator[str]:
        body = token_pair(access_token="new-access", refresh_token="new-refresh")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()

        async def serve(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                while b"grant_type" not in await stream.receive():
                    pass
                await stream.send(head + body)

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
            yield f"http://127.0.0.1:{port}"
            tasks.cancel_scope.cancel()

    async def test_no_secret_reaches_a_log_of_trades(self, address: str, caplog: pytest.LogCaptureFixture) -> None:
        for name in ("httpx", "httpcore"):
            caplog.set_level(logging.DEBUG, logger=name)
        options = msgspec.structs.replace(OPTIONS, base_url=address)
        async with http_client() as http:
            provider = Dexcom(options, http, http, SetClock())
            pairs = [await exchange(provider, "us", "the-code"), await provider.renew("us", CREDENTIALS)]
        assert {tokens_of(each).access for each in pairs} == {Secret("new-access")}
        assert {"httpx", "httpcore.http11"} <= {each.name for each in caplog.records}
        output = caplog.text + repr(pairs) + repr(options)
        assert not [secret for secret in SECRETS if secret in output]


def test_tokens_come_back_from_their_credentials() -> None:
    assert parse_tokens(CREDENTIALS.content) == TOKENS
    assert (CREDENTIALS.expires_at, CREDENTIALS.renewal) == (TOKENS.expires_at, Renewal.SINGLE_USE)
    assert parse_tokens(CREDENTIALS.content).to_credentials() == CREDENTIALS


def test_content_is_the_array_that_earlier_versions_sealed() -> None:
    expires_at = datetime(2026, 1, 1, 2, tzinfo=UTC)
    packed = msgspec.msgpack.encode(["access", "refresh", expires_at])
    tokens = parse_tokens(SecretBytes(packed))
    assert (tokens.access, tokens.refresh, tokens.expires_at) == (Secret("access"), Secret("refresh"), expires_at)
    assert tokens.to_credentials().content.reveal() == packed
