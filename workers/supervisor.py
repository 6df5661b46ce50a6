"""Keep an actor of the process running: a crash restarts it, too many crashes are passed on."""

from collections import deque

import anyio
import structlog
from anyio.abc import TaskStatus

from workers.backoff import Backoff, Patience
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
        patience: Patience | None,
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
        self._patience = patience
        self._crashed_at: deque[float] = deque(maxlen=patience.crashes if patience else 0)
        self._logged: type[Exception] | None = None

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until the actor returns, is cancelled or cannot be helped."""
        promise = _Promise(self, task_status)
        while True:
            started_at, self.running = anyio.current_time(), True
            try:
                await self._actor(task_status=promise)
            except Exception as error:
                if not promise.kept or self._exceeds_patience():
                    raise
                if anyio.current_time() - started_at >= self._backoff.forgive_after:
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

    def _exceeds_patience(self) -> bool:
        if self._patience is None:
            return False
        self._crashed_at.append(anyio.current_time())
        recent = self._crashed_at[-1] - self._crashed_at[0] <= self._patience.within
        return recent and len(self._crashed_at) == self._patience.crashes

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

    def restarted(self) -> None:
        """Log the other edge: the actor says that it works again."""
        if self._logged is not None:
            self._logged = None
            log.info("an actor works again", action="actor_recovered", actor=self.name, crashes=self.failures)


class _Promise(TaskStatus[None]):
    """Passes the first ``started()`` on; the later ones are recoveries."""

    def __init__(self, supervisor: Supervisor, task_status: TaskStatus[None]) -> None:
        self.kept = False
        self._supervisor = supervisor
        self._task_status = task_status

    def started(self, value: None = None) -> None:
        if self.kept:
            self._supervisor.restarted()
        else:
            self.kept = True
            self._task_status.started(value)
