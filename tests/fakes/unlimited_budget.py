"""A budget that never ends, where a test is about something else."""

from datetime import timedelta

from bg_ingest.ports import Priority


class UnlimitedBudget:
    """The port Budget."""

    async def acquire(self, provider: str, region: str, priority: Priority, *, once: bool = False) -> None:
        del provider, region, priority, once

    async def pause(self, provider: str, region: str, *, sent: float, wait: timedelta | None) -> timedelta:
        del provider, region, sent
        return wait or timedelta(minutes=1)
