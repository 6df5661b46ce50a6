"""Reading everything back, past every service."""

from datetime import UTC, datetime

from bg_ingest.domain.columns import unpack
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Recorded
from bg_ingest.domain.windows import Window
from bg_ingest.ports import Readings

EVER = Window(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


async def recorded(readings: Readings, user: UserId, window: Window = EVER) -> list[Recorded]:
    return [each async for packed in readings.packed(user, window) for each in unpack(packed)]
