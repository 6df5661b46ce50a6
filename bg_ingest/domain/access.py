"""Callers and their permissions (API keys, and tokens of an issuer), and audit records of their accesses."""

import hmac
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b, sha256

import msgspec

from bg_ingest.domain.ids import UserId


class Scope(StrEnum):
    """Permission of a credential. No scope implies another: ``admin`` does not include ``readings:read``."""

    READINGS_READ = "readings:read"
    CONNECTIONS_READ = "connections:read"
    CONNECTIONS_WRITE = "connections:write"
    ADMIN = "admin"


class WebhookProof(StrEnum):
    """Method of authentication of a webhook's sender."""

    SIGNATURE = "signature"
    """Signature with a shared secret (Standard Webhooks)."""
    BEARER = "bearer"
    """Token from the operator's own issuer."""


ALL_USERS = "users:all"
"""Scope of a token that is valid for every user, not only for its ``sub``."""

_KEY = re.compile(r"bgi_(?P<id>[a-z0-9]{1,32})_[A-Za-z0-9_-]{43,128}\Z", re.ASCII)


class Caller(msgspec.Struct, frozen=True):
    name: str
    """``key:<id>``, ``token:<sub>``, or ``anybody`` if authentication is off."""
    scopes: frozenset[Scope]
    users: frozenset[UserId] | None = None
    """Users that the caller may access; None means all."""

    def may_access(self, user: str) -> bool:
        return self.users is None or user in self.users


ANONYMOUS = Caller("anybody", frozenset(Scope))


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """API key as stored. The secret is shown once, when the key is created, and not kept."""

    id: str
    name: str
    """Name given by the operator."""
    digest: bytes
    scopes: frozenset[Scope]
    users: frozenset[UserId] | None = None
    """Users that may be accessed with the key: an empty set allows none, None allows all."""
    made_at: datetime
    ends_at: datetime | None = None
    revoked_at: datetime | None = None
    used_at: datetime | None = None
    """Time of the last use, to the hour."""

    @property
    def caller(self) -> Caller:
        return Caller(f"key:{self.id}", self.scopes, self.users)

    def is_valid(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.ends_at is None or now < self.ends_at)

    def matches(self, digest: bytes, now: datetime) -> bool:
        """Compare with the digest of a presented key in constant time, and check that this key is valid."""
        return hmac.compare_digest(self.digest, digest) and self.is_valid(now)


def parse_key_id(text: str) -> str | None:
    """Return the id in the text of a key, ``bgi_<id>_<secret>``; None if it has another form."""
    match = _KEY.match(text)
    return match["id"] if match else None


def hash_key(text: str) -> bytes:
    """Return the stored digest of a key.

    The hash is a fast one. The secret has 256 random bits, so a slow hash would not make it safer, but would cost time
    for every wrong key that is sent.
    """
    return sha256(text.encode()).digest()


def known_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Return the named scopes that this service defines. A token may also have scopes of other services."""
    scopes_by_name = {str(scope): scope for scope in Scope}
    return frozenset(scopes_by_name[name] for name in names if name in scopes_by_name)


class TokenClaims(msgspec.Struct, frozen=True):
    sub: str
    """Bearer of the token: a user, or the client of a token without a user."""
    scopes: frozenset[str]
    is_user: bool = True
    """False if the bearer is a client. A client may have the same name as a user, but has no access to that user."""

    @property
    def caller(self) -> Caller:
        """Caller with access to its own user, or to all users by the scope ``users:all``."""
        own = frozenset({UserId(self.sub)} if self.is_user else ())
        users = None if ALL_USERS in self.scopes else own
        return Caller(f"token:{self.sub}", known_scopes(self.scopes), users)


AUDIT_KEY_BYTES = 32
HOUR = timedelta(hours=1)


def audit_key_seal_data(table: str) -> bytes:
    """Return the associated data with which the key of the audit hashes is sealed."""
    return msgspec.json.encode([table, "audit key"])


class AuditAction(StrEnum):
    """Kind of access. Changes are recorded one by one; all others, which are frequent, once an hour."""

    READ = "read"
    PUSH = "push"
    CHANGE = "change"
    REFUSED = "refused"
    """Request without a valid credential, or without the permission for this user."""


class AuditRecord(msgspec.Struct, frozen=True):
    """One line of the audit. ``user_hash`` is a keyed hash, so that the record can be kept after an erasure."""

    user_hash: str
    at: datetime
    """Time of a change; for all others, the start of the hour."""
    action: AuditAction
    credential: str
    """``Caller.name``, with a keyed hash in place of the user to whom a token was issued. A signed webhook has
    ``signature:<fingerprint of the secret>``, a refused request ``address:<of the client>``."""
    route: str
    """Method and path, with parameter names for the variable parts."""
    nonce: str = ""
    """Random value of a change, because two changes may have the same instant. Stored only as part of ``name``."""

    @property
    def name(self) -> str:
        """Part of the row's key that separates records of one instant. A repeated write has the same name."""
        whole = f"{self.action} {self.credential} {self.route} {self.nonce}"
        return blake2b(whole.encode(), digest_size=8).hexdigest()


def hash_user(key: bytes, text: str) -> str:
    """Return the hash of a user in the audit: 128 bits that cannot be computed or tested without the key."""
    return blake2b(text.encode(), key=key, digest_size=16, person=b"bg-ingest audit").hexdigest()


def hour_start(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)
