"""Claims on grants. A claimed grant is not renewed until the claim was observed unchanged for a minute."""

from datetime import timedelta

import anyio

from bg_ingest.domain.grants import CLAIM_STALE_AFTER, Grant
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.errors import GrantBusy


class GrantClaims:
    """Claims and the times of their first observation, on the monotonic clock of this process."""

    def __init__(self) -> None:
        self._seen: dict[ConnectionId, tuple[str, float]] = {}

    def check(self, grant: Grant) -> None:
        """Raise GrantBusy while a claim on the grant may belong to a running process."""
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
