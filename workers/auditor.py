"""Write the audit down, a second after what it is about."""

import anyio
from anyio.abc import TaskStatus

from bg_ingest.services.audit import Auditing

EVERY = 1.0
"""Seconds; a process that is killed forgets what was done in that time, and what the store did not take."""


class Auditor:
    """Writes what waits, until cancelled."""

    def __init__(self, auditing: Auditing) -> None:
        self._auditing = auditing

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled."""
        task_status.started()
        while True:
            await self._auditing.noted()
            await anyio.sleep(EVERY)
            await self._auditing.write()
