"""The simulated Dexcom as an ASGI application, with admin routes.

Tests in other processes use the admin routes to add faults and to read the true state. These routes need no
credentials, because the simulator has no real data: serve the simulator in development only.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, Router, delete, get, post
from litestar.datastructures import MutableScopeHeaders, State
from litestar.di import Provide
from litestar.exceptions import ClientException, HTTPException, LitestarException, NotFoundException
from litestar.params import FromPath, FromQuery
from litestar.types import Message, Receive, Scope, Send

from bg_ingest.simulator.data import extent, parse_instant, readings
from bg_ingest.simulator.faults import Fault
from bg_ingest.simulator.oauth import choose, exchange, show_login
from bg_ingest.simulator.options import SimulatorOptions
from bg_ingest.simulator.replies import ConnectionLost, SimulatorDependency, SimulatorRequest
from bg_ingest.simulator.simulator import Simulator, UnknownUser

logger = logging.getLogger(__name__)


@post("/faults")
async def add_fault(request: SimulatorRequest, simulator: SimulatorDependency) -> dict[str, int]:
    """Add a fault, given as JSON with its `kind`; return its number."""
    try:
        return {"number": simulator.add_fault(msgspec.json.decode(await request.body(), type=Fault))}
    except (msgspec.DecodeError, UnknownUser) as problem:
        raise ClientException(str(problem)) from problem


@delete("/faults")
async def clear_faults(simulator: SimulatorDependency) -> None:
    simulator.clear_faults()


@delete("/faults/{number:int}")
async def remove_fault(number: FromPath[int], simulator: SimulatorDependency) -> None:
    if not simulator.faults.remove(number):
        raise NotFoundException(f"No fault {number} is active.")


@post("/users/{user:str}/revoke", status_code=204)
async def revoke(user: FromPath[str], simulator: SimulatorDependency) -> None:
    """Revoke every grant of the user. The next login creates a new grant."""
    try:
        simulator.revoke(user)
    except UnknownUser as unknown:
        raise NotFoundException(str(unknown)) from unknown


@get("/state")
async def state_of(simulator: SimulatorDependency) -> dict[str, Any]:
    """Return users, live grants, active faults with the number of affected calls, and calls by endpoint and status."""
    limit = simulator.limit
    return {
        "now": simulator.now(),
        "users": [{"name": wearer.name, "title": wearer.title} for wearer in simulator.wearers.values()],
        "grants": [msgspec.to_builtins(grant) for grant in simulator.grants.alive.values()],
        "faults": [
            {"number": number, "met": active.met, "fault": msgspec.to_builtins(active.fault)}
            for number, active in simulator.faults.all.items()
        ],
        "calls": {f"{endpoint} {status}": count for (endpoint, status), count in sorted(simulator.calls.items())},
        "limit": {
            "calls_per_hour": limit.calls_per_hour,
            "taken": limit.taken,
            "most_taken": limit.max_taken,
            "refused": limit.refused,
        },
    }


@get("/rotations")
async def rotations(simulator: SimulatorDependency) -> list[dict[str, Any]]:
    """Return all rotations; tokens as SHA-256. `answered` is true if the new refresh token was delivered."""
    return [msgspec.to_builtins(rotated) for rotated in simulator.grants.rotations]


@get("/truth")
async def truth(
    simulator: SimulatorDependency,
    user: FromQuery[str],
    start: FromQuery[str],
    end: FromQuery[str],
    *,
    shown: FromQuery[bool] = False,
) -> list[dict[str, Any]]:
    """Return the readings of [start, end] (`YYYY-MM-DDThh:mm:ss`, UTC); with `shown` only those visible by now."""
    try:
        window = parse_instant(start), parse_instant(end)
        visible = simulator.truth(user, *window, simulator.now() if shown else None)
    except (ValueError, UnknownUser) as problem:
        raise ClientException(str(problem)) from problem
    return [msgspec.to_builtins(reading) for reading in visible]


ADMIN = Router(
    path="/admin", route_handlers=[add_fault, clear_faults, remove_fault, revoke, state_of, rotations, truth]
)


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

    `now` returns the time in UTC and is the only clock. With `journal`, a restart keeps grants, faults and rotations.
    The admin routes need no credentials: development only. Raises ReplayUnreadable.
    """
    return create_simulator_app(State({"simulator": Simulator(options, now=now, journal=journal)}))


def create_simulator_app(state: State) -> Litestar:
    """Return the routes of the simulator in `state.simulator`."""

    async def add_date(event: Message, _: Scope) -> None:
        if event["type"] == "http.response.start":
            MutableScopeHeaders(event)["date"] = format_datetime(state.simulator.now(), usegmt=True)

    return SimulatorApp(
        route_handlers=[show_login, choose, exchange, readings, extent, ADMIN],
        dependencies={"simulator": Provide(lambda: state.simulator, sync_to_thread=False)},
        before_send=[add_date],
        after_exception=[log_unexpected_error],
        state=state,
        openapi_config=None,
        logging_config=None,
    )
