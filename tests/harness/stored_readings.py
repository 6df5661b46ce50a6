"""Read of all stored readings of a user without any service."""

from datetime import UTC, datetime

from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import StoredReading
from bg_ingest.domain.segment_codec import unpack
from bg_ingest.domain.windows import Window
from bg_ingest.store.segments import ReadingStore

ALL_TIME = Window(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


async def read_all(readings: ReadingStore, user: UserId, window: Window = ALL_TIME) -> list[StoredReading]:
    return [each async for packed in readings.iter_packed(user, window) for each in unpack(packed)]
