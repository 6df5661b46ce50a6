"""Who may refresh a grant that somebody claims: nobody, until the claim stood still long enough by our own clock."""

from datetime import timedelta

import anyio

from bg_ingest.domain.grants import CLAIM_STALE_AFTER, Grant
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.errors import GrantBusy


class GrantClaims:
    """The claims seen, and since when; no clock of another process decides."""

    def __init__(self) -> None:
        self._seen: dict[ConnectionId, tuple[str, float]] = {}

    def check(self, grant: Grant) -> None:
        """Raise GrantBusy unless nobody claims the grant, or whoever did must be dead."""
        if grant.claim is None:
            return
        now = anyio.current_time()
        claim, since = self._seen.get(grant.id, ("", now))
        if claim != grant.claim:
            since = now
            self._seen[grant.id] = (grant.claim, since)
        remaining = CLAIM_STALE_AFTER - timedelta(seconds=now - since)
        if remaining > timedelta(0):
            raise GrantBusy(remaining)

    def forget(self, connection: ConnectionId) -> None:
        self._seen.pop(connection, None)
