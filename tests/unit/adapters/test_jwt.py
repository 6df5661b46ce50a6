"""Tokens and keys of an issuer: accepted tokens, cached keys, and the requests that they cost the issuer."""

import base64
import hmac
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, RSAKey

from bg_ingest.adapters.jwt import JwtVerifier
from bg_ingest.domain.access import TokenClaims
from bg_ingest.errors import IssuerUnavailable
from tests.conftest import on
from tests.fakes.issuer import AUDIENCE, ISSUER, FakeIssuer, key
from tests.harness.service import LoopClock

anyio_backend = on("asyncio")

MINUTE, HOUR = 60.0, 3600.0


class Verifier:
    def __init__(self, *, discovered: bool = True, keys_url: str | None = None) -> None:
        self.clock = LoopClock()
        self.issuer = FakeIssuer(self.clock.now, discovered=discovered)
        self.tokens = JwtVerifier(self.issuer.http, self.clock, issuer=ISSUER, audience=AUDIENCE, keys_url=keys_url)

    def seconds(self, away: float) -> int:
        return int((self.clock.now() + timedelta(seconds=away)).timestamp())

    async def verify(self, token: str | None = None, **claims: Any) -> TokenClaims | None:
        return await self.tokens.verify(self.issuer.token(**claims) if token is None else token)


@pytest.fixture
async def ours() -> AsyncIterator[Verifier]:
    verifier = Verifier()
    async with verifier.issuer.http:
        yield verifier


async def test_a_right_token_says_who_and_what(ours: Verifier) -> None:
    assert await ours.verify(scope="readings:read  openid") == TokenClaims(
        "ada", frozenset({"readings:read", "openid"})
    )
    assert ours.issuer.asked == [f"{ISSUER}.well-known/openid-configuration", "https://keys.example/all"]
    assert await ours.verify(aud=["other", AUDIENCE]) is not None
    assert await ours.verify(header={"typ": "at+jwt", "x-own": 1}) is not None
    assert len(ours.issuer.asked) == 2


async def test_rsa_is_as_good(ours: Verifier) -> None:
    rsa = key("rsa", "RSA")
    ours.issuer.published.append(rsa.as_dict(private=False))
    for alg in ("RS256", "PS512"):
        assert await ours.verify(by=rsa, alg=alg) is not None


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example/"},
        {"iss": ISSUER.rstrip("/")},
        {"iss": None},
        {"aud": "another"},
        {"aud": []},
        {"aud": None},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"nbf": "now"},
        {"sub": None},
        {"sub": 7},
        {"iat": 10**12},
    ],
)
async def test_a_claim_that_is_not_right_is_not_believed(ours: Verifier, claims: dict[str, Any]) -> None:
    assert await ours.verify(**claims) is None
    assert await ours.verify() is not None


async def test_clocks_may_differ_by_half_a_minute(ours: Verifier) -> None:
    assert await ours.verify(exp=ours.seconds(-29)) is not None
    assert await ours.verify(exp=ours.seconds(-30)) is None
    assert await ours.verify(nbf=ours.seconds(30)) is not None
    assert await ours.verify(nbf=ours.seconds(32)) is None


@pytest.mark.parametrize("scope", [None, ["readings:read"], 7, ""])
async def test_without_a_scope_that_is_text_it_is_good_for_nothing(ours: Verifier, scope: Any) -> None:
    assert await ours.verify(scope=scope) == TokenClaims("ada", frozenset())


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_unsigned_tokens_are_refused(ours: Verifier) -> None:
    right = ours.issuer.token()
    header, payload, signature = right.split(".")
    assert await ours.verify(right) is not None
    admin = encoded({"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "scope": "admin", "exp": ours.seconds(99)})
    none = encoded({"alg": "none", "kid": "first"})
    for forged in (
        f"{header}.{admin}.{signature}",
        f"{none}.{admin}.",
        f"{none}.{admin}.{signature}",
        f"{encoded({'alg': 'None'})}.{admin}.",
        f"{header}.{payload}.",
        f"{header}.{payload}.{signature[:-4]}AAAA",
        f"{header}.{payload}.{'A' * 86}",
        f"{header}.{payload}",
        f"{right}.x",
        "",
        "..",
        "a.b.c",
        "é.é.é",
        right + "=",
        f"{encoded([])}.{payload}.{signature}",
        f"{header}.{encoded([])}.{signature}",
        right + "A" * 8_192,
    ):
        assert await ours.verify(forged) is None, forged[:80]


async def test_a_public_key_is_no_shared_secret(ours: Verifier) -> None:
    """Algorithm confusion: HS256 with the published key as the secret."""
    header = encoded({"alg": "HS256", "kid": "first"})
    claims = encoded({"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "scope": "admin", "exp": ours.seconds(99)})
    public = key()
    assert isinstance(public, ECKey)
    for secret in (public.as_pem(private=False), public.as_der(private=False), json.dumps(public.as_dict()).encode()):
        mac = hmac.digest(secret, f"{header}.{claims}".encode(), "sha256")
        assert await ours.verify(f"{header}.{claims}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}") is None


async def test_another_key_under_a_known_id_is_not_believed(ours: Verifier) -> None:
    forger = RSAKey.generate_key(2048, {"kid": "first"})
    assert await ours.verify(by=forger, alg="RS256") is None
    assert await ours.verify(by=key("second"), header={"kid": "first"}) is None


async def test_a_key_carried_along_is_not_trusted(ours: Verifier) -> None:
    own = key("mine")
    for header in ({"jwk": own.as_dict(private=False)}, {"jku": "https://evil.example/keys"}):
        assert await ours.verify(by=own, header=header | {"kid": None}) is None
    assert not [url for url in ours.issuer.asked if "evil" in url]


async def test_what_must_be_understood_and_is_not_is_refused(ours: Verifier) -> None:
    right = ours.issuer.token()
    _, payload, signature = right.split(".")
    header = encoded({"alg": "ES256", "kid": "first", "crit": ["b64"], "b64": False})
    assert await ours.verify(f"{header}.{payload}.{signature}") is None


async def test_a_published_secret_or_small_key_verifies_nothing(ours: Verifier) -> None:
    shared = OctKey.generate_key(256, {"kid": "shared"})
    with pytest.warns(SecurityWarning):
        small = RSAKey.import_key(rsa.generate_private_key(65_537, 1_024), {"kid": "small"})  # noqa: S505 - the point
    ours.issuer.published += [shared.as_dict(), small.as_dict(private=False), {"kty": "RSA"}, "x", {"kty": "new"}]
    assert await ours.verify(by=shared, alg="HS256") is None
    assert await ours.verify(by=small, alg="RS256") is None
    assert await ours.verify() is not None


async def test_a_new_key_is_found_and_an_old_one_forgotten(ours: Verifier) -> None:
    assert await ours.verify() is not None
    ours.issuer.published = [key("second").as_dict(private=False)]
    await anyio.sleep(MINUTE)
    assert await ours.verify(by=key("second")) is not None
    assert await ours.verify() is None


@pytest.mark.slow
async def test_tokens_that_name_invented_keys_cost_the_issuer_little(ours: Verifier) -> None:
    for number in range(1_000):
        assert await ours.verify(by=key(), header={"kid": f"no {number}"}) is None
        await anyio.sleep(0.1)
    assert len(ours.issuer.asked) <= 2 * 12
    assert await ours.verify("a.b.c") is None


async def test_many_at_once_ask_once(ours: Verifier) -> None:
    token = ours.issuer.token()
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(ours.verify, token)
    assert len(ours.issuer.asked) == 2


@pytest.mark.parametrize("failing", [500, 302, 404, httpx.ConnectError("x"), httpx.ReadTimeout("x")])
async def test_what_cannot_be_checked_is_not_let_in_and_not_called_wrong(failing: Any) -> None:
    ours = Verifier(keys_url="https://keys.example/all")
    ours.issuer.failing = failing
    async with ours.issuer.http:
        for _ in range(100):
            with pytest.raises(IssuerUnavailable):
                await ours.verify()
        assert len(ours.issuer.asked) == 1
        ours.issuer.failing = None
        await anyio.sleep(10)
        assert await ours.verify() is not None


async def test_tokens_with_a_cached_key_are_accepted_while_the_issuer_is_away_for_hours(ours: Verifier) -> None:
    assert await ours.verify() is not None
    ours.issuer.failing = 503
    await anyio.sleep(23 * HOUR)
    assert await ours.verify() is not None
    with pytest.raises(IssuerUnavailable):  # the issuer may have such a key by now
        await ours.verify(by=key("second"))
    await anyio.sleep(2 * HOUR)
    with pytest.raises(IssuerUnavailable):
        await ours.verify()


async def test_keys_published_elsewhere_are_found_at_the_default_address() -> None:
    ours = Verifier(discovered=False)
    async with ours.issuer.http:
        assert await ours.verify() is not None
    assert ours.issuer.asked[-1] == f"{ISSUER}.well-known/jwks.json"


@pytest.mark.parametrize(
    "configuration",
    [
        {"issuer": "https://evil.example/", "jwks_uri": "https://keys.example/all"},
        {"issuer": ISSUER, "jwks_uri": "http://keys.example/all"},
        {"issuer": ISSUER, "jwks_uri": 7},
        {"issuer": ISSUER},
        [],
        "x" * 300_000,
    ],
)
async def test_a_configuration_that_is_not_the_issuers_leads_nowhere(configuration: Any) -> None:
    ours = Verifier()
    ours.issuer.configuration = configuration
    async with ours.issuer.http:
        with pytest.raises(IssuerUnavailable):
            await ours.verify()
    assert len(ours.issuer.asked) == 1
