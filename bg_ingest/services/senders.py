"""Who may push to us with a token: a client of the operator's own issuer, with the scope for it."""

from bg_ingest.ports import Tokens


class Senders:
    """Knows them by their tokens; whom the readings are of is the page's and the connection's matter."""

    def __init__(self, tokens: Tokens | None = None, scope: str = "") -> None:
        self._tokens = tokens
        self._scope = scope

    async def vouch(self, token: str) -> bool:
        """Tell whether the token's holder may push; IssuerUnavailable when that cannot be known."""
        claims = await self._tokens.claims(token) if self._tokens else None
        return claims is not None and self._scope in claims.scopes
