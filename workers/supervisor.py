"""Restarts of crashed actors: delays with backoff, and the limit of crashes."""

import random
from collections import deque
from collections.abc import Callable

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from workers.runtime import Actor

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential backoff with jitter, in seconds; a run of at least ``reset_after`` resets it.

    Without jitter, all replicas that lost the broker at the same time would reconnect at the same time.
    """

    first: float = 1.0
    ceiling: float = 300.0
    reset_after: float = 600.0
    jitter: Callable[[float, float], float] = random.uniform

    def delay(self, failures: int) -> float:
        """Return the delay after this many consecutive failures (1 or more)."""
        doublings = min(failures - 1, 32)  # exceeds any ceiling; 2.0**1024 would overflow
        max_delay = min(self.ceiling, self.first * 2.0**doublings)
        return self.jitter(max_delay / 2, max_delay)


class CrashLimit(msgspec.Struct, frozen=True, kw_only=True):
    """Number of crashes within a number of seconds after which the actor is not restarted."""

    crashes: int = 10
    within: float = 600.0


class Supervisor:
    """An actor that runs another actor until that returns or exceeds its crash limit.

    A crash before the first ``started()`` is a failed start and is raised at once. Afterwards a crash restarts the
    actor after a growing delay with jitter, which a long run resets. The crash that reaches the limit is raised as it
    is, and the runtime then stops the process. Without a limit the actor is restarted forever; the connection to the
    broker has no limit, because the broker may be unreachable for an hour.
    """

    def __init__(
        self, name: str, actor: Actor, *, backoff: Backoff | None = None, crash_limit: CrashLimit | None
    ) -> None:
        self.name = name
        self.failures = 0
        """Consecutive crashes since the last long run."""
        self.restarts = 0
        """Restarts since the start of the process."""
        self.running = False
        """True while the actor runs, False during the delay before a restart."""
        self._actor = actor
        self._backoff = backoff or Backoff()
        self._crash_limit = crash_limit
        self._crashed_at: deque[float] = deque(maxlen=crash_limit.crashes if crash_limit else 0)
        self._logged: type[Exception] | None = None

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until the actor returns, is cancelled or reaches the crash limit."""
        supervised_status = _SupervisedStatus(self, task_status)
        while True:
            started_at, self.running = anyio.current_time(), True
            try:
                await self._actor(task_status=supervised_status)
            except Exception as error:
                if not supervised_status.is_started or self._exceeds_crash_limit():
                    raise
                if anyio.current_time() - started_at >= self._backoff.reset_after:
                    self.failures = 0
                self.failures += 1
                self.restarts += 1
                delay = self._backoff.delay(self.failures)
                self._log_crash(error, delay)
            else:
                return  # the actor has finished
            finally:
                self.running = False
            await anyio.sleep(delay)

    def _exceeds_crash_limit(self) -> bool:
        if self._crash_limit is None:
            return False
        self._crashed_at.append(anyio.current_time())
        recent = self._crashed_at[-1] - self._crashed_at[0] <= self._crash_limit.within
        return recent and len(self._crashed_at) == self._crash_limit.crashes

    def _log_crash(self, error: Exception, delay: float) -> None:
        """Log the first crash with its traceback; repetitions of the same error type are debug lines."""
        if type(error) is self._logged:
            log.debug("an actor crashed again", action="actor_crashed", actor=self.name, restart_in=delay)
            return
        self._logged = type(error)
        log.error(
            "an actor crashed and will restart",
            action="actor_crashed",
            actor=self.name,
            restart_in=round(delay, 1),
            exc_info=error,
        )

    def log_recovery(self) -> None:
        """Log that the actor works again, once after a crash."""
        if self._logged is not None:
            self._logged = None
            log.info("an actor works again", action="actor_recovered", actor=self.name, crashes=self.failures)


class _SupervisedStatus(TaskStatus[None]):
    """Passes on the first ``started()``; later calls mean recovery."""

    def __init__(self, supervisor: Supervisor, task_status: TaskStatus[None]) -> None:
        self.is_started = False
        self._supervisor = supervisor
        self._task_status = task_status

    def started(self, value: None = None) -> None:
        if self.is_started:
            self._supervisor.log_recovery()
        else:
            self.is_started = True
            self._task_status.started(value)
