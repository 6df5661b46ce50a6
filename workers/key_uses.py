"""Write down when API keys were last used: beside the requests, which do not wait for it."""

from contextlib import suppress

import anyio
from anyio.abc import TaskStatus

from bg_ingest.errors import StoreError
from bg_ingest.services.admission import Admission

EVERY = 60.0
"""Seconds; a process that is killed forgets the uses of that long."""


class KeyUses:
    """Notes them once a minute, which is once an hour for each key."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Note until cancelled."""
        task_status.started()
        while True:
            await anyio.sleep(EVERY)
            with suppress(StoreError):  # another minute will do
                await self._admission.note_uses()
