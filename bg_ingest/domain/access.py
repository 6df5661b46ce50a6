"""Who asks us, and what they may: API keys, and the tokens of an issuer."""

import hmac
import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

import msgspec

from bg_ingest.domain.ids import UserId


class Scope(StrEnum):
    """What a credential is good for. None implies another: who may erase a user need not see a reading."""

    READINGS_READ = "readings:read"
    CONNECTIONS_READ = "connections:read"
    CONNECTIONS_WRITE = "connections:write"
    ADMIN = "admin"


class WebhookProof(StrEnum):
    """How a webhook proves who sends it."""

    SIGNATURE = "signature"
    """By a secret that both have: Standard Webhooks."""
    BEARER = "bearer"
    """By a token of the operator's own issuer."""


ALL_USERS = "users:all"
"""Among a token's scopes: it may be used for every user, not only for its ``sub``."""

_KEY = re.compile(r"bgi_(?P<id>[a-z0-9]{1,32})_[A-Za-z0-9_-]{43,128}\Z", re.ASCII)


class Caller(msgspec.Struct, frozen=True):
    """Whoever was let in."""

    name: str
    """``key:<id>``, ``token:<sub>``, or ``anybody`` where nobody is asked who they are."""
    scopes: frozenset[Scope]
    users: frozenset[UserId] | None = None
    """Whom they may ask about; None is everybody."""

    def may_access(self, user: str) -> bool:
        return self.users is None or user in self.users


ANONYMOUS = Caller("anybody", frozenset(Scope))


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is kept: its secret is known to nobody but who was shown it."""

    id: str
    name: str
    """What its owner calls it."""
    digest: bytes
    scopes: frozenset[Scope]
    users: frozenset[UserId] | None = None
    """Whom it may ask about, nobody where that is empty; None is everybody."""
    made_at: datetime
    ends_at: datetime | None = None
    revoked_at: datetime | None = None
    used_at: datetime | None = None
    """When it was last used, to the hour."""

    @property
    def caller(self) -> Caller:
        return Caller(f"key:{self.id}", self.scopes, self.users)

    def is_valid(self, now: datetime) -> bool:
        """Tell whether it still lets in."""
        return self.revoked_at is None and (self.ends_at is None or now < self.ends_at)

    def matches(self, digest: bytes, now: datetime) -> bool:
        """Tell whether a text with this digest is this key, and lets in now."""
        return hmac.compare_digest(self.digest, digest) and self.is_valid(now)


def parse_key_id(text: str) -> str | None:
    """Return the id in the text of a key, ``bgi_<id>_<secret>``; None when it has another form."""
    found = _KEY.match(text)
    return found["id"] if found else None


def hash_key(text: str) -> bytes:
    """Return what is kept of a key.

    A plain hash is enough: the secret has 256 random bits, so there is nothing to guess that a slow one would protect,
    and whoever sends wrong keys would have us work for each.
    """
    return sha256(text.encode()).digest()


def known_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes that we know among these; tokens carry others' too."""
    scopes_by_name = {str(each): each for each in Scope}
    return frozenset(scopes_by_name[name] for name in names if name in scopes_by_name)


class TokenClaims(msgspec.Struct, frozen=True):
    """What a verified token says."""

    sub: str
    scopes: frozenset[str]

    @property
    def caller(self) -> Caller:
        """Who it lets in: for its own user only, unless its scopes say otherwise."""
        users = None if ALL_USERS in self.scopes else frozenset({UserId(self.sub)})
        return Caller(f"token:{self.sub}", known_scopes(self.scopes), users)
