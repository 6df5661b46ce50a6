"""Codes, grants and their rotations. Every change of a grant is recorded as an event first; codes are not recorded.

In the methods that issue tokens, ``answered`` is False if a fault cuts the reply with the tokens.
Tokens are not stored: their content is encoded in them, with a keyed hash.
"""

import hmac
from collections.abc import Callable
from datetime import datetime, timedelta
from math import ceil
from typing import Literal

import msgspec

from bg_ingest.simulator.journal import Event, Granted, Revoked, Rotated, token_hash
from bg_ingest.simulator.options import SimulatorOptions

TokenKind = Literal["code", "access", "refresh"]


class Token(msgspec.Struct, frozen=True):
    """Content of a token. In a code, `grant` and `version` only make its text unique."""

    kind: TokenKind
    grant: int
    """Number of the grant."""
    version: int
    """Number of rotations of the grant up to this token."""
    ends: int = 0
    """Unix time of expiry; 0 for none."""


class TokenCodec:
    """Encodes tokens, and decodes only those encoded with the same seed. Tokens therefore outlive a restart."""

    def __init__(self, seed: int) -> None:
        self._key = f"simulated tokens of seed {seed}".encode()

    def encode(self, token: Token) -> str:
        claims = f"{token.kind}.{token.grant}.{token.version}.{token.ends}"
        return f"{claims}.{hmac.digest(self._key, claims.encode(), 'sha256').hex()}"

    def decode(self, text: str, kind: TokenKind) -> Token | None:
        """Decode a token of that kind; return None for any other text."""
        try:
            _, grant, version, ends, _ = text.split(".")
            token = Token(kind, int(grant), int(version), int(ends))
        except ValueError:
            return None
        return token if hmac.compare_digest(self.encode(token).encode(), text.encode()) else None


class Grant(msgspec.Struct):
    """Permission of a user for one client; `version` counts the rotations. Only the newest refresh token is valid."""

    number: int
    user: str
    client_id: str
    version: int = 0


class Code(msgspec.Struct, frozen=True):
    """Code of a login; exchanged once, before `ends`, with the same redirect address."""

    user: str
    client_id: str
    redirect_uri: str
    ends: datetime


class TokenPair(msgspec.Struct, frozen=True):
    access_token: str
    refresh_token: str
    expires_in: int


class Grants:
    """Grants of all users. Methods do not await, so that two rotations cannot interleave."""

    def __init__(self, options: SimulatorOptions, now: Callable[[], datetime], record: Callable[[Event], None]) -> None:
        self._options = options
        self._now = now
        self._record = record
        self._tokens = TokenCodec(options.seed)
        self._codes: dict[str, Code] = {}
        self.alive: dict[int, Grant] = {}
        self._last_number = 0
        self.rotations: list[Rotated] = []

    def apply(self, event: Event) -> None:
        """Apply an event to grants and rotations, which only this method changes.

        ``record`` (see `__init__`) appends an event to the journal and calls this method. A restart calls it for the
        stored events.
        """
        match event:
            case Granted(grant=number, user=user, client_id=client_id):
                self._last_number = number
                self.alive[number] = Grant(number, user, client_id)
            case Rotated(grant=number):
                self.alive[number].version += 1
                self.rotations.append(event)
            case Revoked(user=user):
                self.alive = {n: grant for n, grant in self.alive.items() if grant.user != user}

    def issue_code(self, user: str, client_id: str, redirect_uri: str) -> str:
        now = self._now()
        self._codes = {text: code for text, code in self._codes.items() if code.ends > now}
        index = len(self._codes) + self._last_number
        text = self._tokens.encode(Token("code", index, int(now.timestamp() * 1_000_000)))
        ends = now + timedelta(seconds=self._options.code_seconds)
        self._codes[text] = Code(user, client_id, redirect_uri, ends)
        return text

    def find_code(self, code: str) -> Code | None:
        return self._codes.get(code)

    def exchange(self, code: str, redirect_uri: str, *, answered: bool) -> TokenPair | None:
        """Spend the code. None: unknown, spent, expired, or issued for another redirect address."""
        known, now = self._codes.pop(code, None), self._now()
        if known is None or known.ends <= now or known.redirect_uri != redirect_uri:
            return None
        number = self._last_number + 1
        pair = self._pair(number, 0)
        user, client_id, token = known.user, known.client_id, token_hash(pair.refresh_token)
        self._record(Granted(at=now, grant=number, user=user, client_id=client_id, token=token, answered=answered))
        return pair

    def holder(self, refresh_token: str) -> Grant | None:
        """Return the grant whose newest refresh token this is; None for a spent, revoked or unknown token."""
        token = self._tokens.decode(refresh_token, "refresh")
        grant = self.alive.get(token.grant) if token else None
        return grant if grant and token and grant.version == token.version else None

    def rotate(self, refresh_token: str, *, answered: bool) -> TokenPair | None:
        """Spend the refresh token and return the next pair; None for a spent, revoked or unknown token.

        Reuse of a spent token does not revoke the grant.
        """
        grant = self.holder(refresh_token)
        if grant is None:
            return None
        pair = self._pair(grant.number, grant.version + 1)
        old, new = token_hash(refresh_token), token_hash(pair.refresh_token)
        self._record(Rotated(at=self._now(), grant=grant.number, user=grant.user, old=old, new=new, answered=answered))
        return pair

    def bearer(self, access_token: str) -> Grant | None:
        """Return the grant of a valid access token. Rotations keep it valid; expiry or a revocation ends it."""
        token = self._tokens.decode(access_token, "access")
        if token is None or token.ends <= self._now().timestamp():
            return None
        return self.alive.get(token.grant)

    def _pair(self, number: int, version: int) -> TokenPair:
        life = self._options.access_token_seconds
        ends = ceil(self._now().timestamp()) + life  # at least the announced duration
        access, refresh = Token("access", number, version, ends), Token("refresh", number, version)
        return TokenPair(self._tokens.encode(access), self._tokens.encode(refresh), life)
