"""History of a connection, written to the store directly: segments at a fixed distance, and a gap in each month."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from bg_ingest.domain.gaps import Cause, Gap, month_start
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.readings import Device, Flag, Reading, StoredReading
from bg_ingest.domain.segments import SEGMENT_HOURS, Segment, segment_start
from bg_ingest.ports.table import Item, Key, Put, Table
from bg_ingest.store import items, keys
from bg_ingest.store.segments import encode_segment

SEGMENT = timedelta(hours=SEGMENT_HOURS)
CADENCE = timedelta(minutes=5)
WEEK, TEN_YEARS = timedelta(days=7), timedelta(days=3_650)


async def add_history(
    table: Table, connection: ConnectionId, end: datetime, length: timedelta, *, distance: timedelta = SEGMENT
) -> None:
    """Write readings of the time before the segment that contains ``end``, and a gap of two hours for each month."""
    device = Device(connection.provider, f"account-of-{connection.user}", "ab" * 32, "iOS", "g7")
    end = segment_start(end)
    for start in _iter_starts(segment_start(end - length), end, distance):
        readings = tuple(
            StoredReading(Reading(start + number * CADENCE, 80 + number % 90, Flag.OK, device, "flat", 0.1), start, 1)
            for number in range(SEGMENT // CADENCE)
        )
        await table.write(Put(keys.segment(connection.user, start), encode_segment(Segment(start, 1, readings))))
    months = {month_start(start) for start in _iter_starts(end - length, end, timedelta(days=28))}
    for month in sorted(months):
        await table.write(Put(*_gap_month(connection, month)))


def _gap_month(connection: ConnectionId, month: datetime) -> tuple[Key, Item]:
    after = month + timedelta(hours=3)
    gap = Gap(
        after=after,
        before=after + timedelta(hours=2),
        cadence_seconds=300,
        cause=Cause.PROVIDER_HAS_NOTHING,
        opened_at=after + timedelta(hours=4),
        healed_at=None,
    )
    packed = msgspec.msgpack.encode([items.encode_gap(gap)])
    return keys.gap_month(connection, month), items.build_item(version=1, gaps=packed)


def _iter_starts(start: datetime, end: datetime, distance: timedelta) -> Iterator[datetime]:
    while start < end:
        yield start
        start += distance
