"""Credentials inside a grant: sealed, and bound to where they are stored."""

from datetime import datetime

import msgspec

from bg_ingest.domain.grants import Credentials, Grant, Secret
from bg_ingest.ports import Sealer


class GrantSealer:
    """Puts credentials into grants of one table, and takes them out."""

    def __init__(self, sealer: Sealer, table: str) -> None:
        self._sealer = sealer
        self._table = table

    def open(self, grant: Grant) -> Credentials:
        """Return what the grant holds; Unsealable when no key fits, or it was moved or altered."""
        plain = self._sealer.open(grant.sealed, grant.associated_data(self._table))
        access, refresh, expires_at = msgspec.msgpack.decode(plain, type=tuple[str, str, datetime])
        return Credentials(Secret(access), Secret(refresh), expires_at)

    def seal(self, grant: Grant, credentials: Credentials) -> Grant:
        plain = msgspec.msgpack.encode(
            [credentials.access.reveal(), credentials.refresh.reveal(), credentials.expires_at]
        )
        sealed = self._sealer.seal(plain, grant.associated_data(self._table))
        return msgspec.structs.replace(grant, sealed=sealed)
