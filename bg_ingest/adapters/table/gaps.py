"""The port Gaps over a table."""

from contextlib import aclosing
from datetime import datetime

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.gap_records import gaps_of
from bg_ingest.adapters.table.protocol import Table
from bg_ingest.domain.gaps import Ledger, month_of
from bg_ingest.domain.ids import ConnectionId


class TableGaps:
    def __init__(self, table: Table) -> None:
        self._table = table

    async def ledgers(self, connection: ConnectionId, first: datetime, last: datetime) -> list[Ledger]:
        pk, low = keys.ledger(connection, month_of(first))
        _, high = keys.ledger(connection, month_of(last))
        async with aclosing(self._table.query(pk, low, high)) as pages:
            found = [row async for page in pages for row in page]
        return [
            Ledger(connection.provider, keys.parse_ledger(key), int(each["version"]), gaps_of(bytes(each["gaps"])))  # type: ignore[arg-type]
            for key, each in found
        ]
