"""Claims of access tokens as the large issuers write them. ``docs/security.md`` has the table.

RFC 9068 names the claims; Amazon Cognito, Microsoft Entra ID, Okta, Auth0 and Keycloak differ in some of them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from bg_ingest.domain.access import TokenClaims

_HEADER_TYPES = frozenset({"jwt", "at+jwt"})
_CLAIM_TYPES = frozenset({"bearer", "jwt", "at+jwt"})
"""Types of access tokens. An issuer signs its ID, refresh and logout tokens with the same keys."""

_CLIENT_CLAIMS = ("client_id", "azp", "cid", "appid")
"""Claims that name the client, in this order. RFC 9068 and Cognito use ``client_id``; Keycloak, Auth0 and Entra ID
``azp``; Okta ``cid``; version 1 of Entra ID ``appid``."""

SERVICE_PREFIX = "bg-ingest/"
"""Prefix of our scopes at issuers that put the name of the API before each scope, as Cognito does."""


def is_access_token(header: Mapping[str, Any], claims: Mapping[str, Any]) -> bool:
    """Return False for a token of another purpose, by the header's type or the claims that name the purpose.

    Cognito names it in ``token_use`` and Keycloak in a claim ``typ``. Logout tokens have ``events`` (OpenID Connect).
    """
    return (
        _is_type(header.get("typ", "JWT"), _HEADER_TYPES)
        and _is_type(claims.get("typ", "Bearer"), _CLAIM_TYPES)
        and claims.get("token_use", "access") == "access"
        and "events" not in claims
    )


def names_audience_as_client(claims: Mapping[str, Any], audience: str) -> bool:
    """Return True for an access token of Cognito that names the audience in ``client_id`` and has no ``aud``."""
    is_access = claims.get("token_use") == "access"
    return "aud" not in claims and is_access and claims.get("client_id") == audience


def to_token_claims(claims: Mapping[str, Any], audience: str) -> TokenClaims | None:
    """Return the bearer and the scopes; None without a bearer.

    The bearer is ``sub``, else the client: a token of a client without a user may have no ``sub``.
    """
    scopes = frozenset(_iter_scopes(claims, audience))
    if "sub" in claims:
        return TokenClaims(claims["sub"], scopes)
    clients = (claims.get(name) for name in _CLIENT_CLAIMS)
    client = next((client for client in clients if isinstance(client, str) and client), None)
    return None if client is None else TokenClaims(client, scopes, is_user=False)


def _iter_scopes(claims: Mapping[str, Any], audience: str) -> Iterator[str]:
    scope, scp, roles = claims.get("scope"), claims.get("scp"), claims.get("roles")
    names = scope.split() if isinstance(scope, str) else []
    names += scp.split() if isinstance(scp, str) else _texts(scp)
    if "tid" in claims and "scp" not in claims:  # Entra ID puts the permissions of a client without a user in `roles`
        names += _texts(roles)
    for name in names:
        yield name
        for prefix in (SERVICE_PREFIX, f"{audience}/"):
            if name.startswith(prefix):
                yield name.removeprefix(prefix)


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _is_type(value: object, accepted: frozenset[str]) -> bool:
    return isinstance(value, str) and value.lower().removeprefix("application/") in accepted
