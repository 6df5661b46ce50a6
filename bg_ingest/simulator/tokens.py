"""Tokens that need no storage: what they stand for is written in them, under a keyed hash."""

import hmac
from typing import Literal

import msgspec

TokenKind = Literal["code", "access", "refresh"]


class Token(msgspec.Struct, frozen=True):
    """A grant's number, how many rotations it saw, and the second the token ends (0: never)."""

    kind: TokenKind
    grant: int
    version: int
    ends: int = 0


class TokenCodec:
    """Makes tokens and recognises its own; the same seed recognises them after a restart."""

    def __init__(self, seed: int) -> None:
        self._key = f"simulated tokens of seed {seed}".encode()

    def encode(self, token: Token) -> str:
        claims = f"{token.kind}.{token.grant}.{token.version}.{token.ends}"
        return f"{claims}.{hmac.digest(self._key, claims.encode(), 'sha256').hex()}"

    def decode(self, text: str, kind: TokenKind) -> Token | None:
        """None for whatever this mint did not make as that kind."""
        try:
            _, grant, version, ends, _ = text.split(".")
            token = Token(kind, int(grant), int(version), int(ends))
        except ValueError:
            return None
        return token if hmac.compare_digest(self.encode(token).encode(), text.encode()) else None
