"""Calls to a provider, timed as they go out: what waits for the budget is not yet a call."""

from datetime import datetime

from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.readings import Reading, Unreadable
from bg_ingest.domain.windows import Window
from bg_ingest.metrics.measures import Measures
from bg_ingest.ports import Available, Page, Priority, Provider


class MeasuredProvider:
    """The port Provider. Refusals count as ``provider_throttled`` and ``grant_rejected``."""

    def __init__(self, provider: Provider, measures: Measures) -> None:
        self.name = provider.name
        self.capabilities = provider.capabilities
        self._provider = provider
        self._calls = measures.provider_calls

    def authorize_url(self, region: str, state: str) -> str:
        return self._provider.authorize_url(region, state)

    async def exchange(self, region: str, code: str) -> Credentials:
        with self._calls(self.name, region, "exchange"):
            return await self._provider.exchange(region, code)

    async def refresh(self, region: str, credentials: Credentials) -> Credentials:
        with self._calls(self.name, region, "refresh"):
            return await self._provider.refresh(region, credentials)

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> Available:
        with self._calls(self.name, region, "available"):
            return await self._provider.available(region, credentials, priority)

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        with self._calls(self.name, region, "readings"):
            return await self._provider.readings(region, credentials, window, priority)

    async def pushed(self, content: bytes) -> Page:
        return await self._provider.pushed(content)

    def retranslate(self, provider_account: str, raw: bytes, came_at: datetime) -> Reading | Unreadable:
        return self._provider.retranslate(provider_account, raw, came_at)
