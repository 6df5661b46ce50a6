"""Sealing of a grant's credentials, bound to the place where they are stored."""

import msgspec

from bg_ingest.domain.grants import Credentials, Grant, SecretBytes
from bg_ingest.ports import Sealer


class GrantSealer:
    """Seals and opens the credentials of the grants of one table."""

    def __init__(self, sealer: Sealer, table: str) -> None:
        self._sealer = sealer
        self._table = table

    def open(self, grant: Grant) -> SecretBytes:
        """Return the content of the credentials.

        Raises:
            SealBroken: no key fits, or the sealed bytes were moved or altered.
        """
        return SecretBytes(self._sealer.open(grant.sealed, grant.associated_data(self._table)))

    def seal(self, grant: Grant, credentials: Credentials) -> Grant:
        """Return the grant with these credentials; nothing but their content is sealed."""
        sealed = self._sealer.seal(credentials.content.reveal(), grant.associated_data(self._table))
        return msgspec.structs.replace(grant, sealed=sealed)
