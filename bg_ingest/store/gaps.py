"""Gaps as stored: a month of them packed in one item, and single ones in changes. Arrays only grow at their end."""

from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import msgspec

from bg_ingest.domain.gaps import Cause, Gap, GapMonth, month_start
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.segment_codec import to_epoch_ms, to_epoch_seconds
from bg_ingest.ports.table import Table
from bg_ingest.store import keys

_encode = msgspec.msgpack.encode

_decode = msgspec.msgpack.decode


def encode_gaps(gaps: tuple[Gap, ...]) -> bytes:
    return _encode([encode_gap(each) for each in gaps])


def decode_gaps(packed: bytes) -> tuple[Gap, ...]:
    return tuple(decode_gap(each) for each in _decode(packed))


def encode_gap(gap: Gap) -> list[Any]:
    """Return after, before (epoch seconds), cadence, cause, opened and healed (epoch milliseconds)."""
    before = None if gap.before is None else to_epoch_seconds(gap.before)
    healed_at = None if gap.healed_at is None else to_epoch_ms(gap.healed_at)
    return [to_epoch_seconds(gap.after), before, gap.cadence_seconds, gap.cause, to_epoch_ms(gap.opened_at), healed_at]


def decode_gap(packed: list[Any]) -> Gap:
    after, before, cadence, cause, opened_at, healed_at, *_ = packed
    return Gap(
        after=datetime.fromtimestamp(after, UTC),
        before=None if before is None else datetime.fromtimestamp(before, UTC),
        cadence_seconds=cadence,
        cause=Cause(cause),
        opened_at=datetime.fromtimestamp(opened_at / 1000, UTC),
        healed_at=None if healed_at is None else datetime.fromtimestamp(healed_at / 1000, UTC),
    )


class GapStore:
    """The gaps of a connection, by the month in which they begin; may raise StoreUnavailable, consistent."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def read_months(self, connection: ConnectionId, first: datetime, last: datetime) -> list[GapMonth]:
        """Return those that exist from the month of one instant to the month of another, ascending: one read."""
        pk, low = keys.gap_month(connection, month_start(first))
        _, high = keys.gap_month(connection, month_start(last))
        async with aclosing(self._table.query(pk, low, high)) as pages:
            found = [row async for page in pages for row in page]
        return [
            GapMonth(
                connection.provider,
                keys.parse_gap_month(key),
                int(each["version"]),
                decode_gaps(bytes(each["gaps"])),  # type: ignore[arg-type]
            )
            for key, each in found
        ]
