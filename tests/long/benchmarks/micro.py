"""Parts of an answer alone, in this process: the time of the store's client, and of encoding."""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

import msgspec

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.api.schemas import BasicReading
from bg_ingest.domain.reading_filter import ReadingFilter
from bg_ingest.domain.windows import Window
from bg_ingest.store import Store
from tests.integration.servers import DynamoServer, credentials
from tests.long.benchmarks.history import OF_A_DAY, QUARTER, START

READS, GETS, ENCODINGS = 40, 1000, 40


class MicroFigures(msgspec.Struct, frozen=True):
    """Milliseconds of processor time, each the median of the runs."""

    get_head: float
    """GetItem and decoding, the store's part of ``latest``."""
    query_and_unpack: float
    """Query of 90 days, and time and value of each reading from the segments: the least work of a range."""
    encode_quarter: float
    """msgspec's encoding of 90 days of existing structs."""
    encode_latest: float


async def measure_micro(endpoint: str, table: str, runs: int) -> MicroFigures:
    async with DynamoServer(endpoint, credentials()).open_table(table) as opened:
        readings = Store(opened, SystemClock()).readings
        window = Window(START, QUARTER.end)

        async def unpacked() -> list[Sequence[tuple[int, int]]]:
            shown = ReadingFilter()
            segments = readings.iter_packed(QUARTER.user, window)
            return [shown.select(None, shown.decode_points(packed), None) async for packed in segments]

        async def get() -> None:
            assert await readings.head(OF_A_DAY[0].user) is not None

        rows = [row for segment in await unpacked() for row in segment]
        assert len(rows) == QUARTER.count
        shown = [BasicReading(datetime.fromtimestamp(second, UTC), value) for second, value in rows]
        encode = msgspec.json.Encoder().encode

        async def encoded(value: Any) -> None:
            encode(value)

        return MicroFigures(
            await _milliseconds(get, GETS, runs),
            await _milliseconds(unpacked, READS, runs),
            await _milliseconds(lambda: encoded(shown), ENCODINGS, runs),
            await _milliseconds(lambda: encoded(shown[0]), GETS, runs),
        )


async def _milliseconds(do: Callable[[], Awaitable[object]], times: int, runs: int) -> float:
    found = []
    for _ in range(runs):
        used = time.process_time()
        for _ in range(times):
            await do()
        found.append(1000 * (time.process_time() - used) / times)
    return median(found)
