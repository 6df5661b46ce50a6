"""Years of readings, written straight into the store's file before the service starts."""

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.domain.commits import Head
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Device, Flag, Reading, StoredReading
from bg_ingest.domain.segments import SEGMENT_HOURS, Segment, segment_start
from bg_ingest.ports.table import MAX_WRITES, Put
from bg_ingest.store import LAYOUT, keys
from bg_ingest.store.head import encode_head
from bg_ingest.store.segments import encode_segment
from tests.long.chaos.store_dump import open_items

CADENCE = timedelta(minutes=5)
SEGMENT = timedelta(hours=SEGMENT_HOURS)
DEVICE = Device("dexcom", "ab" * 32, "cd" * 32, "iOS", "g7")


def write_history(data: Path, user: str, *, years: int, cadence: timedelta = CADENCE) -> int:
    """Make a store with a number of years of one user up to now; return the number of readings."""
    data.mkdir(parents=True)
    end = segment_start(SystemClock().now())
    writes: Iterator[Put] = _segments(UserId(user), end - timedelta(days=365 * years), end, cadence)
    with open_items(data) as items:
        items.transact([Put(keys.META, LAYOUT)])
        while batch := list(islice(writes, MAX_WRITES)):
            items.transact(batch)
        newest = StoredReading(_reading(end - cadence, 110), end, 1)
        head = Head(UserId(user), last_change=1, recorded_at=end, newest=newest)
        items.transact([Put(keys.head(UserId(user)), encode_head(head))])
    return years * 365 * int(timedelta(days=1) / cadence)


def write_heads(data: Path, users: Sequence[str]) -> None:
    """Make a store of users with one change each, whose newest reading is known and whose history is not kept."""
    data.mkdir(parents=True)
    end = segment_start(SystemClock().now())
    newest = StoredReading(_reading(end - CADENCE, 110), end, 1)
    heads = (Head(UserId(user), last_change=1, recorded_at=end, newest=newest) for user in users)
    with open_items(data) as items:
        items.transact([Put(keys.META, LAYOUT)])
        while batch := list(islice(heads, MAX_WRITES)):
            items.transact([Put(keys.head(head.user), encode_head(head)) for head in batch])


def _segments(user: UserId, start: datetime, end: datetime, cadence: timedelta) -> Iterator[Put]:
    chance = random.Random(1)
    value = 110
    while start < end:
        readings = []
        for number in range(int(SEGMENT / cadence)):
            value = min(390, max(45, value + chance.randint(-6, 6)))
            readings.append(StoredReading(_reading(start + number * cadence, value), end, 1))
        yield Put(keys.segment(user, start), encode_segment(Segment(start, 1, tuple(readings))))
        start += SEGMENT


def _reading(at: datetime, value: int) -> Reading:
    return Reading(at, value, Flag.OK, DEVICE, "flat", 0.1, 3600)
