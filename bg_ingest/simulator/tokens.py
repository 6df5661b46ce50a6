"""Tokens without storage: their content is encoded in them, with a keyed hash."""

import hmac
from typing import Literal

import msgspec

TokenKind = Literal["code", "access", "refresh"]


class Token(msgspec.Struct, frozen=True):
    """Number of the grant, number of its rotations, and expiry of the token in seconds (0: never)."""

    kind: TokenKind
    grant: int
    version: int
    ends: int = 0


class TokenCodec:
    """Issues tokens and recognises its own; with the same seed also after a restart."""

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
