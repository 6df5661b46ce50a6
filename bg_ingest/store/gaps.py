"""Gap months: one item per connection and month, with the packed gaps that begin in the month."""

from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime

import msgspec

from bg_ingest.domain.commits import Commit
from bg_ingest.domain.gaps import GapMonth, month_start
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.windows import Window
from bg_ingest.errors import StaleRead
from bg_ingest.ports.table import Item, Put, StoredItem
from bg_ingest.store import items, keys


class GapStore(items.ItemStore):
    """Gap months of connections. Only commits write gap months."""

    async def read_months(self, connection: ConnectionId, first: datetime, last: datetime) -> list[GapMonth]:
        """Return the existing months from that of ``first`` to that of ``last``, ascending, in one read."""
        pk, low = keys.gap_month(connection, month_start(first))
        _, high = keys.gap_month(connection, month_start(last))
        rows = await items.read_range(self._table, pk, low, high)
        return [_decode_month(connection.provider, keys.parse_gap_month(key), item) for key, item in rows]

    async def read_overlapping(self, connection: ConnectionId, window: Window) -> list[GapMonth]:
        """Return the months whose gaps can overlap a window, ascending.

        These are the existing months of the window and the last existing month before it. One earlier month suffices:
        gaps of a connection do not overlap, so only the last gap before the window can reach into the window.
        """
        first_month = month_start(window.start)
        pk, low = keys.gap_month(connection, datetime.min.replace(tzinfo=UTC))
        _, high = keys.gap_month(connection, month_start(window.end))
        page = min(100, (window.end.year - first_month.year) * 12 + window.end.month - first_month.month + 2)
        months: list[GapMonth] = []
        async with aclosing(self._table.query(pk, low, high, page=page, descending=True)) as pages:
            async for rows in pages:
                for key, item in rows:
                    months.insert(0, _decode_month(connection.provider, keys.parse_gap_month(key), item))
                    if months[0].month < first_month:
                        return months
        return months


def commit_writes(commit: Commit) -> Iterator[items.ConditionalWrite]:
    for month in commit.gap_months:
        key = keys.gap_month(ConnectionId(commit.user, month.provider), month.month)
        yield items.ConditionalWrite(Put(key, _encode_month(month), items.version_conditions(month.version)), StaleRead)


def _encode_month(month: GapMonth) -> Item:
    return items.build_item(
        version=month.version, gaps=msgspec.msgpack.encode([items.encode_gap(gap) for gap in month.gaps])
    )


def _decode_month(provider: str, month: datetime, item: StoredItem) -> GapMonth:
    gaps = tuple(items.decode_gap(packed) for packed in msgspec.msgpack.decode(item["gaps"]))
    return GapMonth(provider, month, item["version"], gaps)
