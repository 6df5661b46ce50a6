"""The simulated Dexcom as an ASGI application."""

import logging
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path

from litestar import Litestar
from litestar.datastructures import MutableScopeHeaders, State
from litestar.di import Provide
from litestar.exceptions import HTTPException, LitestarException
from litestar.types import Message, Receive, Scope, Send

from bg_ingest.simulator.admin import ADMIN
from bg_ingest.simulator.data import extent, readings
from bg_ingest.simulator.exchange import exchange
from bg_ingest.simulator.login import choose, show_login
from bg_ingest.simulator.options import SimulatorOptions
from bg_ingest.simulator.replies import ConnectionLost
from bg_ingest.simulator.simulator import Simulator

logger = logging.getLogger(__name__)


class SimulatorApp(Litestar):
    """Litestar application that raises `ConnectionLost` unwrapped; Litestar would wrap it into another error."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]  # lifespan scopes pass through
        try:
            await super().__call__(scope, receive, send)
        except LitestarException as wrapped:
            if isinstance(wrapped.__cause__, ConnectionLost):
                raise wrapped.__cause__ from None
            raise


async def log_unexpected_error(problem: Exception, _: Scope) -> None:
    """Log the error behind a plain 500 of Litestar."""
    if not isinstance(problem, HTTPException):
        logger.error("The simulator failed", exc_info=problem)


def create_simulator(
    options: SimulatorOptions, *, now: Callable[[], datetime], journal: Path | None = None
) -> Litestar:
    """Return a simulated Dexcom to mount or to run alone; `app.state.simulator` is its `Simulator`.

    `now` returns the time in UTC and is the only clock. With `journal`, grants, faults and rotations survive a restart.
    The admin routes need no credentials: development only. Raises ReplayUnreadable.
    """
    return create_simulator_app(State({"simulator": Simulator(options, now=now, journal=journal)}))


def create_simulator_app(state: State) -> Litestar:
    """Return the routes of the simulator in `state.simulator`."""

    async def date_replies(event: Message, _: Scope) -> None:
        if event["type"] == "http.response.start":
            MutableScopeHeaders(event)["date"] = format_datetime(state.simulator.now(), usegmt=True)

    return SimulatorApp(
        route_handlers=[show_login, choose, exchange, readings, extent, ADMIN],
        dependencies={"simulator": Provide(lambda: state.simulator, sync_to_thread=False)},
        before_send=[date_replies],
        after_exception=[log_unexpected_error],
        state=state,
        openapi_config=None,
        logging_config=None,
    )
