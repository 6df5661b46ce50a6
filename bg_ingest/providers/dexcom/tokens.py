"""Content of Dexcom's credentials: a pair of tokens and the end of the first one's life."""

from datetime import datetime

import msgspec

from bg_ingest.domain.grants import Credentials, Renewal, Secret, SecretBytes


class Tokens(msgspec.Struct, frozen=True):
    """Access token and single-use refresh token."""

    access: Secret
    refresh: Secret
    expires_at: datetime
    """End of the access token's life."""

    def to_credentials(self) -> Credentials:
        """Return the credentials. Their content is a MessagePack array of both tokens and the instant."""
        content = msgspec.msgpack.encode([self.access.reveal(), self.refresh.reveal(), self.expires_at])
        return Credentials(SecretBytes(content), self.expires_at, Renewal.SINGLE_USE)


def parse_tokens(content: SecretBytes) -> Tokens:
    access, refresh, expires_at = msgspec.msgpack.decode(content.reveal(), type=tuple[str, str, datetime])
    return Tokens(Secret(access), Secret(refresh), expires_at)
