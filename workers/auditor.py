"""Write the audit down, a second after what it is about."""

import anyio
from anyio.abc import TaskStatus

from bg_ingest.services.access.audit import AuditLog

INTERVAL_SECONDS = 1.0
"""Seconds; a process that is killed forgets what was done in that time, and what the store did not take."""


class Auditor:
    """Writes what waits, until cancelled."""

    def __init__(self, audit_log: AuditLog) -> None:
        self._audit_log = audit_log

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled."""
        task_status.started()
        while True:
            await self._audit_log.wait()
            await anyio.sleep(INTERVAL_SECONDS)
            await self._audit_log.flush()
