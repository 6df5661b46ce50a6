"""The calls that all processes together may make to a provider: the port Budget, and providers that keep to it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import anyio

from bg_ingest.domain.budget import App, Limit
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.readings import Reading, Unreadable
from bg_ingest.domain.windows import Window
from bg_ingest.errors import ProviderThrottled
from bg_ingest.ports import Available, Budget, Budgets, Capabilities, Clock, Page, Priority, Provider
from bg_ingest.services.mix import USUAL, Mix
from bg_ingest.services.till import Till


class SharedBudget:
    """The port Budget: a till for each app and region that is called."""

    def __init__(
        self,
        budgets: Budgets,
        capabilities: Mapping[str, Capabilities],
        clock: Clock,
        limit: Limit,
        interval: timedelta = USUAL,
    ) -> None:
        """``interval``: how often connections are looked at where nothing else is set for them."""
        self.limit = limit
        self.tills: dict[App, Till] = {}
        self._budgets = budgets
        self._capabilities = capabilities
        self._clock = clock
        self._interval = interval
        self._closed = False

    async def take(self, provider: str, region: str, priority: Priority, *, once: bool = False) -> None:
        till = self._till(provider, region)
        await till.take(priority, once=once)
        if not once and priority != Priority.BACKFILL:
            till.mix.count(look=priority == Priority.LIVE)

    async def throttled(self, provider: str, region: str, *, sent: float, wait: timedelta | None) -> timedelta:
        asked = None if wait is None else wait.total_seconds()
        return timedelta(seconds=await self._till(provider, region).pause(sent, asked))

    def close(self) -> None:
        """Let nobody wait for a call any more but a connect: the process is about to end, others ask for the rest."""
        self._closed = True
        for till in self.tills.values():
            till.close()

    def app(self, provider: str, region: str) -> App:
        return App(provider, self._capabilities[provider].app, region)

    def default_app(self, provider: str) -> App | None:
        """Return the app of a provider's default region; None where the provider is not known here."""
        known = self._capabilities.get(provider)
        return self.app(provider, known.default_region) if known else None

    def calls_per_look(self, app: App) -> float:
        """Return how many calls a look costs, with refreshes and sweeps, as far as was seen here."""
        return (self.tills[app].mix if app in self.tills else Mix(self.limit, self._interval)).calls_per_look

    def _till(self, provider: str, region: str) -> Till:
        app = self.app(provider, region)
        if app not in self.tills:
            self.tills[app] = Till(app, self.limit, self._budgets, self._clock, self._interval)
            if self._closed:
                self.tills[app].close()
        return self.tills[app]


class Budgeted:
    """A provider whose calls are had from the budget first, and whose refusals pause everybody.

    ``refresh`` takes none: its call is had before the claim, since nothing may wait after that (see ``grants.py``).
    """

    def __init__(self, inner: Provider, budget: Budget) -> None:
        self.name = inner.name
        self.capabilities = inner.capabilities
        self._inner = inner
        self._budget = budget

    def authorize_url(self, region: str, state: str) -> str:
        return self._inner.authorize_url(region, state)

    async def exchange(self, region: str, code: str) -> Credentials:
        async with self._call(region, Priority.REFRESH):
            return await self._inner.exchange(region, code)

    async def refresh(self, region: str, credentials: Credentials) -> Credentials:
        async with self._heeding(region):
            return await self._inner.refresh(region, credentials)

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> Available:
        async with self._call(region, priority):
            return await self._inner.available(region, credentials, priority)

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        async with self._call(region, priority):
            return await self._inner.readings(region, credentials, window, priority)

    async def pushed(self, content: bytes) -> Page:
        return await self._inner.pushed(content)

    def retranslate(self, provider_account: str, raw: bytes, came_at: datetime) -> Reading | Unreadable:
        return self._inner.retranslate(provider_account, raw, came_at)

    @asynccontextmanager
    async def _call(self, region: str, priority: Priority) -> AsyncIterator[None]:
        # of those that come here, what is as urgent as a refresh is a connect's
        await self._budget.take(self.name, region, priority, once=priority == Priority.REFRESH)
        async with self._heeding(region):
            yield

    @asynccontextmanager
    async def _heeding(self, region: str) -> AsyncIterator[None]:
        sent = anyio.current_time()
        try:
            yield
        except ProviderThrottled as refused:
            pause = await self._budget.throttled(self.name, region, sent=sent, wait=refused.wait)
            raise ProviderThrottled(pause) from None
