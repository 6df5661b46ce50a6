"""Keys of an issuer: cached, read again, and never believed for what they are not."""

from typing import Any

import anyio
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.errors import SecurityWarning
from joserfc.jwk import OctKey, RSAKey

from bg_ingest.errors import IssuerUnavailable
from tests.fakes.issuer import ISSUER, key
from tests.unit.adapters.jwt.conftest import Verifier

MINUTE, HOUR = 60.0, 3600.0


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


async def test_an_issuer_that_is_away_for_hours_stops_nobody_who_has_its_key(ours: Verifier) -> None:
    assert await ours.verify() is not None
    ours.issuer.failing = 503
    await anyio.sleep(23 * HOUR)
    assert await ours.verify() is not None
    with pytest.raises(IssuerUnavailable):  # there may be such a key by now
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
