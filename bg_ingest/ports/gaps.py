"""What we need of where gaps are kept. They change in commits only."""

from datetime import datetime
from typing import Protocol

from bg_ingest.domain.gaps import GapMonth
from bg_ingest.domain.ids import ConnectionId


class Gaps(Protocol):
    """The gaps of a connection, by the month in which they begin; may raise StoreUnavailable, consistent."""

    async def read_months(self, connection: ConnectionId, first: datetime, last: datetime) -> list[GapMonth]:
        """Return those that exist from the month of one instant to the month of another, ascending: one read."""
