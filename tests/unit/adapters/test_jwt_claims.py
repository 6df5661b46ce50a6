"""Access tokens as the large issuers make them, by the examples in their documentation of November 2026."""

from typing import Any, NamedTuple

import pytest
from joserfc.jwk import OKPKey

from bg_ingest.adapters.jwt import LEEWAY_SECONDS, JwtVerifier
from bg_ingest.domain.access import ALL_USERS, Scope, TokenClaims
from tests.conftest import on
from tests.fakes.issuer import FakeIssuer, key
from tests.harness.service import LoopClock

anyio_backend = on("asyncio")

UUID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"


class IssuedToken(NamedTuple):
    """A token of one issuer. The claims are complete but for the times; `aud` is the audience unless it is named."""

    issuer: str
    audience: str
    header: dict[str, Any]
    claims: dict[str, Any]
    bearer: str
    is_user: bool = True


COGNITO = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_ABC123"
OKTA = "https://example.okta.com/oauth2/default"
AUTH0 = "https://example.eu.auth0.com/"
KEYCLOAK = "https://id.example.org/realms/health"
ENTRA_V2, ENTRA_V1 = f"https://login.microsoftonline.com/{TENANT}/v2.0", f"https://sts.windows.net/{TENANT}/"
NO_TYPE: dict[str, Any] = {}
JWT_TYPE = {"typ": "JWT"}

TOKENS = {
    "cognito person": IssuedToken(
        COGNITO,
        "57cbishk4j24pabc1234567890",
        NO_TYPE,
        {
            "aud": None,
            "sub": UUID,
            "cognito:groups": ["readers"],
            "version": 2,
            "client_id": "57cbishk4j24pabc1234567890",
            "origin_jti": UUID,
            "event_id": UUID,
            "token_use": "access",
            "scope": "openid bg-ingest/readings:read aws.cognito.signin.user.admin",
            "jti": UUID,
            "username": "ada",
        },
        UUID,
    ),
    "cognito machine": IssuedToken(
        COGNITO,
        "57cbishk4j24pabc1234567890",
        NO_TYPE,
        {
            "aud": None,
            "sub": "57cbishk4j24pabc1234567890",
            "token_use": "access",
            "scope": "bg-ingest/readings:read bg-ingest/users:all",
            "version": 2,
            "jti": UUID,
            "client_id": "57cbishk4j24pabc1234567890",
        },
        "57cbishk4j24pabc1234567890",
    ),
    "entra person": IssuedToken(
        ENTRA_V2,
        "6e74172b-be56-4843-9ff4-e66a39bb12e3",
        JWT_TYPE,
        {
            "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
            "scope": None,
            "scp": "readings:read",
            "roles": ["admin"],
            "azp": UUID,
            "azpacr": "0",
            "oid": UUID,
            "tid": TENANT,
            "uti": "fqiBqXLPj0eQa82S-IYFAA",
            "ver": "2.0",
        },
        "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
    ),
    "entra machine": IssuedToken(
        ENTRA_V2,
        "6e74172b-be56-4843-9ff4-e66a39bb12e3",
        JWT_TYPE,
        {
            "sub": UUID,
            "scope": None,
            "roles": ["readings:read", "users:all"],
            "azp": UUID,
            "azpacr": "1",
            "idtyp": "app",
            "oid": UUID,
            "tid": TENANT,
            "ver": "2.0",
        },
        UUID,
    ),
    "entra person, version 1": IssuedToken(
        ENTRA_V1,
        "api://bg-ingest",
        JWT_TYPE | {"x5t": "i6lGk3FZzxRcUb2C3nEQ7syHJlY"},
        {"sub": "pairwise", "scope": None, "scp": "readings:read", "appid": UUID, "tid": TENANT, "ver": "1.0"},
        "pairwise",
    ),
    "okta person": IssuedToken(
        OKTA,
        "api://default",
        NO_TYPE,
        {
            "ver": 1,
            "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
            "cid": "0oacqf8qaJw56czJi0g4",
            "uid": "00ujmkLgagxeRrAg20g3",
            "sub": "ada@example.org",
            "scope": None,
            "scp": ["openid", "readings:read"],
        },
        "ada@example.org",
    ),
    "okta machine": IssuedToken(
        OKTA,
        "api://default",
        NO_TYPE,
        {
            "ver": 1,
            "jti": "AT.x",
            "cid": "0oacqf8qaJw56czJi0g4",
            "sub": "0oacqf8qaJw56czJi0g4",
            "scope": None,
            "scp": ["readings:read", "users:all"],
        },
        "0oacqf8qaJw56czJi0g4",
    ),
    "auth0 person": IssuedToken(
        AUTH0,
        "https://bg.example.org/",
        JWT_TYPE,
        {
            "sub": "auth0|123456",
            "aud": ["https://bg.example.org/", f"{AUTH0}userinfo"],
            "azp": "my_client_id",
            "scope": "openid profile readings:read",
        },
        "auth0|123456",
    ),
    "auth0 machine, RFC 9068": IssuedToken(
        AUTH0,
        "https://bg.example.org/",
        {"typ": "at+jwt"},
        {
            "sub": "awZfdIir8YFdGZWkvCejDoUb7SjTDicx@clients",
            "client_id": "awZfdIir8YFdGZWkvCejDoUb7SjTDicx",
            "scope": "readings:read users:all",
            "jti": "73WakrfVbNJBaAmhQtEeDv",
        },
        "awZfdIir8YFdGZWkvCejDoUb7SjTDicx@clients",
    ),
    "keycloak person": IssuedToken(
        KEYCLOAK,
        "bg-ingest",
        JWT_TYPE,
        {
            "jti": UUID,
            "aud": ["bg-ingest", "account"],
            "sub": UUID,
            "typ": "Bearer",
            "azp": "dashboard",
            "sid": UUID,
            "acr": "1",
            "realm_access": {"roles": ["offline_access", "admin"]},
            "resource_access": {"account": {"roles": ["view-profile"]}},
            "scope": "openid email profile readings:read",
            "preferred_username": "ada",
        },
        UUID,
    ),
    "keycloak machine, lightweight": IssuedToken(
        KEYCLOAK,
        "bg-ingest",
        JWT_TYPE,
        {
            "jti": "trrtcc:9f5c",
            "sub": None,
            "typ": "Bearer",
            "azp": "pipeline",
            "scope": "readings:read users:all",
        },
        "pipeline",
        is_user=False,
    ),
}
each_token = pytest.mark.parametrize("name", TOKENS)


async def verify(token: IssuedToken, *, header: dict[str, Any] | None = None, **changes: Any) -> TokenClaims | None:
    """Return the claims of a token with some of them replaced; None removes a claim."""
    clock = LoopClock()
    issuer = FakeIssuer(clock.now)
    issuer.configuration = {"issuer": token.issuer, "jwks_uri": "https://keys.example/all"}
    signing_key = key("rsa", "RSA")
    issuer.published = [signing_key.as_dict(private=False)]
    now = int(clock.now().timestamp())
    times = {"iat": now, "nbf": now, "auth_time": now, "exp": now + 3600}
    claims = {"iss": token.issuer, "aud": token.audience} | times | token.claims | changes
    text = issuer.token(signing_key, alg="RS256", header={"typ": None} | token.header | (header or {}), **claims)
    async with issuer.http:
        verifier = JwtVerifier(issuer.http, clock, issuer=token.issuer, audience=token.audience)
        return await verifier.verify(text)


@each_token
async def test_f6_a_token_of_each_issuer_is_accepted_with_its_bearer_and_scopes(name: str) -> None:
    token = TOKENS[name]
    claims = await verify(token)
    assert claims is not None
    assert (claims.sub, claims.is_user) == (token.bearer, token.is_user)
    assert claims.caller.scopes == {Scope.READINGS_READ}, "and no role of another system is a scope of ours"
    assert (ALL_USERS in claims.scopes) == ("machine" in name)


@each_token
async def test_f6_the_token_of_another_api_or_issuer_is_not(name: str) -> None:
    token = TOKENS[name]
    wrong: list[dict[str, Any]] = [
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": []},
        {"aud": None, "client_id": "another", "token_use": "access"},
        {"aud": None, "client_id": [token.audience], "token_use": "access"},
        {"aud": None, "client_id": token.audience, "token_use": None},
        {"aud": None, "azp": token.audience, "client_id": None},
        {"aud": "another", "client_id": token.audience, "token_use": "access"},
        {"iss": "https://evil.example/"},
        {"exp": None},
    ]
    for changes in wrong:
        assert await verify(token, **changes) is None, changes


@each_token
@pytest.mark.parametrize(
    "changes",
    [
        {"token_use": "id"},
        {"token_use": "refresh"},
        {"token_use": 7},
        {"typ": "ID"},
        {"typ": "Refresh"},
        {"typ": "Logout"},
        {"typ": "DPoP"},
        {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    ],
)
async def test_s15_a_token_of_another_purpose_is_refused_by_its_claims(name: str, changes: dict[str, Any]) -> None:
    assert await verify(TOKENS[name], **changes) is None


@pytest.mark.parametrize("name", ["okta person", "keycloak person"])
async def test_s15_a_token_of_another_purpose_is_refused_by_its_type(name: str) -> None:
    for typ in ("JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", None):
        assert await verify(TOKENS[name], header={"typ": typ}) is not None, typ
    others: list[Any] = ["logout+jwt", "secevent+jwt", "dpop+jwt", "token-introspection+jwt", "JOSE", "", "id+jwt"]
    for typ in others:
        assert await verify(TOKENS[name], header={"typ": typ}) is None, typ
    assert await verify(TOKENS[name], header={"typ": "application/okta-internal-at+jwt"}) is None


async def test_f6_a_machine_without_sub_is_no_user_of_that_name() -> None:
    machine = TOKENS["keycloak machine, lightweight"]
    claims = await verify(machine, azp="ada", scope="readings:read")
    assert claims is not None
    assert claims.caller.users == frozenset()
    assert not claims.caller.may_access("ada")
    everyone = await verify(machine)
    assert everyone is not None
    assert everyone.caller.may_access("ada")
    elsewhere: list[dict[str, Any]] = [{"client_id": "pipeline"}, {"cid": "pipeline"}, {"appid": "pipeline"}]
    for changes in elsewhere:
        assert await verify(machine, azp=None, **changes) == everyone
    unnamed: list[dict[str, Any]] = [{"azp": None}, {"azp": ""}, {"azp": 7}, {"azp": ["x"]}, {"sub": ""}, {"sub": 7}]
    for nobody in unnamed:
        assert await verify(machine, **nobody) is None, nobody


@pytest.mark.parametrize(
    "scope", ["other-api/admin", "admin/", "/admin", "https://api.example/admin", "bg-ingest:admin"]
)
async def test_f6_a_scope_of_another_api_is_no_scope_of_ours(scope: str) -> None:
    claims = await verify(TOKENS["cognito person"], scope=scope)
    assert claims is not None
    assert claims.caller.scopes == frozenset()


async def test_f6_roles_are_scopes_of_machines_of_entra_only() -> None:
    for name in ("okta person", "auth0 person", "keycloak person", "cognito person", "entra person"):
        claims = await verify(TOKENS[name], roles=["admin", "users:all"])
        assert claims is not None
        assert not claims.scopes & {"admin", "users:all"}, name


@each_token
async def test_f6_iat_may_be_ahead_by_the_clock_tolerance(name: str) -> None:
    now = int(LoopClock().now().timestamp())
    assert await verify(TOKENS[name], iat=now + LEEWAY_SECONDS) is not None
    assert await verify(TOKENS[name], iat=now + LEEWAY_SECONDS, nbf=now + LEEWAY_SECONDS) is not None
    assert await verify(TOKENS[name], iat=now + 0.5) is not None
    assert await verify(TOKENS[name], iat=now + 10**6) is None
    assert await verify(TOKENS[name], iat="now") is None


@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
async def test_f6_keys_of_eddsa_verify(alg: str) -> None:
    clock = LoopClock()
    issuer = FakeIssuer(clock.now)
    signing_key, other = (OKPKey.generate_key("Ed25519", {"kid": "ed", "use": "sig"}) for _ in range(2))
    agreement = OKPKey.generate_key("X25519", {"kid": "x"})
    issuer.published = [signing_key.as_dict(private=False), agreement.as_dict(private=False)]
    async with issuer.http:
        verifier = JwtVerifier(issuer.http, clock, issuer="https://id.example/", audience="bg-ingest")
        assert await verifier.verify(issuer.token(signing_key, alg=alg)) == TokenClaims(
            "ada", frozenset({Scope.READINGS_READ})
        )
        assert await verifier.verify(issuer.token(other, alg=alg)) is None
