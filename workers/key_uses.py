"""Write down when API keys were last used: beside the requests, which do not wait for it."""

from contextlib import suppress

import anyio
from anyio.abc import TaskStatus

from bg_ingest.errors import StoreError
from bg_ingest.services.access.authenticate import Authenticator

INTERVAL_SECONDS = 60.0
"""Seconds; a process that is killed forgets the uses of that long."""


class KeyUseWriter:
    """Notes them once a minute, which is once an hour for each key."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Note until cancelled."""
        task_status.started()
        while True:
            await anyio.sleep(INTERVAL_SECONDS)
            with suppress(StoreError):  # another minute will do
                await self._authenticator.write_key_uses()
