"""Call budget without a limit, for tests of another subject."""

from datetime import timedelta

from bg_ingest.ports import Priority


class UnlimitedBudget:
    """Grants every call at once."""

    async def acquire(self, provider: str, region: str, priority: Priority, *, once: bool = False) -> None:
        del provider, region, priority, once

    async def pause(self, provider: str, region: str, *, sent: float, wait: timedelta | None) -> timedelta:
        del provider, region, sent
        return wait or timedelta(minutes=1)
