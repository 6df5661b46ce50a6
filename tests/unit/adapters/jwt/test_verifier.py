"""Tokens of an issuer: which are believed, and what that costs the issuer."""

import base64
import hmac
import json
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from bg_ingest.domain.access import TokenClaims
from tests.fakes.issuer import AUDIENCE, ISSUER, key
from tests.unit.adapters.jwt.conftest import Verifier


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


async def test_what_nobody_has_signed_is_not_believed(ours: Verifier) -> None:
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
    """The oldest trick: HS256 with the published key as the secret."""
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
