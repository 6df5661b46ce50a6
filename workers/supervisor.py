"""Keep an actor of the process running: a crash restarts it, too many crashes are passed on."""

from collections import deque

import anyio
import structlog
from anyio.abc import TaskStatus

from workers.backoff import Backoff, CrashLimit
from workers.runtime import Actor

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Supervisor:
    """An actor that runs another one again and again until it returns or its crashes exceed the patience.

    A crash before the first ``started()`` is a failed start and leaves at once. Afterwards the actor gets a
    jittered, growing delay, forgiven after a long run. Crashes past the patience leave as they are: the
    runtime then stops the process. Without a patience (the broker's connection: its server may be away for
    an hour) the actor is restarted for ever.
    """

    def __init__(
        self,
        name: str,
        actor: Actor,
        *,
        backoff: Backoff | None = None,
        crash_limit: CrashLimit | None,
    ) -> None:
        self.name = name
        self.failures = 0
        """Crashes in a row that no long run has forgiven."""
        self.restarts = 0
        """Since the start of the process."""
        self.running = False
        """Whether the actor runs now; not while it waits to be started again."""
        self._actor = actor
        self._backoff = backoff or Backoff()
        self._crash_limit = crash_limit
        self._crashed_at: deque[float] = deque(maxlen=crash_limit.crashes if crash_limit else 0)
        self._logged: type[Exception] | None = None

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until the actor returns, is cancelled or cannot be helped."""
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
                return  # an actor that returns has finished; it did not break
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
        """Log the edge with its traceback; the same crash again on the way up is only a debug line."""
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
        """Log the other edge: the actor says that it works again."""
        if self._logged is not None:
            self._logged = None
            log.info("an actor works again", action="actor_recovered", actor=self.name, crashes=self.failures)


class _SupervisedStatus(TaskStatus[None]):
    """Passes the first ``started()`` on; the later ones are recoveries."""

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
