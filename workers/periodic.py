"""Actions that an actor repeats at a fixed interval."""

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskStatus

Action = Callable[[], Awaitable[object]]

AUDIT_SECONDS = 1.0
"""Seconds between the first waiting audit record and the write. A killed process loses the records of that time."""

KEY_USE_SECONDS = 60.0
"""Seconds between writes of API-key uses. A killed process loses the uses of that time."""

ERASURE_SECONDS = 60.0
"""Seconds between two rounds over unfinished erasures. A round without any costs one query."""


class Periodic:
    """An actor that runs an action every ``every`` seconds.

    ``first_after`` replaces the interval before the first run. ``wait_for_work`` is awaited before each interval. It
    returns once there is something to do, so that an idle process does not wake up for nothing. An error of the action
    is a crash of the actor.
    """

    def __init__(
        self, every: float, action: Action, *, first_after: float | None = None, wait_for_work: Action | None = None
    ) -> None:
        self._every = every
        self._action = action
        self._first_after = every if first_after is None else first_after
        self._wait_for_work = wait_for_work

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        seconds = self._first_after
        while True:
            if self._wait_for_work:
                await self._wait_for_work()
            await anyio.sleep(seconds)
            await self._action()
            seconds = self._every
