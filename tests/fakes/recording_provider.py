"""Provider wrapper that records window and priority of each call for readings."""

from typing import Any, NamedTuple

from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.windows import Window
from bg_ingest.ports import Page, Priority, Provider


class RecordedCall(NamedTuple):
    """One call for readings."""

    window: Window
    priority: Priority


class RecordingProvider:
    """Passes on every call and records those for readings."""

    def __init__(self, inner: Provider) -> None:
        self.inner = inner
        self.asked: list[RecordedCall] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        self.asked.append(RecordedCall(window, priority))
        return await self.inner.readings(region, credentials, window, priority)
