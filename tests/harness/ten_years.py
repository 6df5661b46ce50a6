"""Program that requests ten years of readings in each format and prints the growth of its memory.

    python -m tests.harness.ten_years 1 application/vnd.apache.parquet

It is a program of its own, because memory freed by another test would hide the memory of an answer.
"""

import json
import resource
import sys
from collections.abc import AsyncGenerator, MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import msgspec

from bg_ingest.adapters.parquet import Arro3Encoder
from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.api.app import build_state, create_api
from bg_ingest.api.auth import Access
from bg_ingest.domain.access import ApiKey
from bg_ingest.domain.commits import Head
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Device, Flag, Reading, StoredReading
from bg_ingest.domain.segment_codec import pack
from bg_ingest.domain.segments import SEGMENT_HOURS
from bg_ingest.domain.windows import Window
from bg_ingest.services.access.audit import AuditLog
from bg_ingest.services.access.authenticate import Authenticator
from bg_ingest.services.queries.readings import ReadingQueries
from bg_ingest.store.api_keys import ApiKeyStore
from bg_ingest.store.audit import AuditStore
from bg_ingest.store.segments import ReadingStore
from tests.fakes.clock import SetClock
from tests.harness.api import FakeProcessHealth

END = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 3_650


class TenYearsOfReadings:
    """Readings of six hours, repeated over any window. Every second one was recorded later."""

    def __init__(self, minutes: int = 5) -> None:
        device = Device("acme", "account-1", "ab" * 32, "iOS", "g7")
        start = datetime(2000, 1, 1, tzinfo=UTC)
        readings = [
            Reading(
                start + each * timedelta(minutes=minutes), 80 + each * 7 % 90, Flag.OK, device, "flat", 0.1 * (each % 5)
            )
            for each in range(SEGMENT_HOURS * 60 // minutes)
        ]
        self._first, *self._rest = msgspec.msgpack.decode(
            pack([StoredReading(each, start, 1 + n % 2) for n, each in enumerate(readings)])
        )
        self._start = start

    async def head(self, user: UserId) -> Head:
        return Head(user, last_change=2)

    async def iter_packed(self, user: UserId, window: Window, *, consistent: bool = False) -> AsyncGenerator[bytes]:
        """Move the stored segment by its base, the first of the packed values."""
        start = self._first + int((window.start - self._start).total_seconds())
        for base in range(start, int(window.end.timestamp()), SEGMENT_HOURS * 3600):
            yield msgspec.msgpack.encode([base, *self._rest])


def resident_memory() -> int:
    """Return the resident bytes of this process. The highest value ever would include that of its parent."""
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * resource.getpagesize()


class EmptyApiKeys:
    """Store without API keys."""

    async def read_all(self) -> list[ApiKey]:
        return []


async def measure_format(app: Any, accept: str, days: int, more: str = "") -> tuple[int, int, int, int]:
    """Return pieces, bytes and readings of an answer, and the highest memory. Nothing of the answer is kept."""
    pieces, size, count, status, most = 0, 0, 0, 0, 0

    async def send(event: MutableMapping[str, Any]) -> None:
        nonlocal pieces, size, count, status, most
        status = event.get("status", status)
        body = event.get("body", b"")
        pieces += bool(body)
        size += len(body)
        count += body.count(b"Z")
        most = max(most, resident_memory())

    async def receive() -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    query = f"from={END - timedelta(days=days):%Y-%m-%d}&to={END:%Y-%m-%d}{more}".encode()
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/bg/ada",
        "raw_path": b"/api/bg/ada",
        "query_string": query,
        "headers": [(b"host", b"ingest.test"), (b"accept", accept.encode())],
    }
    await app(scope, receive, send)
    assert status == 200
    return pieces, size, count, most


async def main(minutes: int, formats: Sequence[str]) -> None:
    """Warm up with a month of each format, then request ten years of a sensor with this cadence."""
    state = build_state(access=Access.OPEN, process_health=FakeProcessHealth(), own_names=["ingest.test"])
    nowhere = cast("AuditStore", None)  # an actor writes the records, and none runs
    state.services = SimpleNamespace(
        authenticator=Authenticator(cast("ApiKeyStore", EmptyApiKeys()), SetClock()),
        reader=ReadingQueries(cast("ReadingStore", TenYearsOfReadings(minutes)), SetClock()),
        columnar=Arro3Encoder(),
        audit_log=AuditLog(nowhere, AesGcmSealer([bytes(32)]), SetClock(), "test", retention=timedelta(days=365)),
    )
    app = create_api(state)
    for accept in formats:
        await measure_format(app, accept, 30)
    before = resident_memory()
    asked = {accept: await measure_format(app, accept, DAYS) for accept in formats}
    asked["as_of"] = await measure_format(app, formats[0], DAYS // 5, "&as_of_change=1")
    json.dump({"grown": max(most for *_, most in asked.values()) - before, "asked": asked}, sys.stdout)


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), sys.argv[2:])
