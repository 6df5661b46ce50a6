"""Admin routes: faults on request, and the true state for tests in other processes.

They need no credentials, because the simulator holds nothing real: serve it in development only.
"""

from typing import Any

import msgspec
from litestar import Router, delete, get, post
from litestar.exceptions import ClientException, NotFoundException
from litestar.params import FromPath, FromQuery

from bg_ingest.simulator.faults import Fault
from bg_ingest.simulator.replies import SimulatorDependency, SimulatorRequest
from bg_ingest.simulator.simulator import UnknownUser
from bg_ingest.simulator.wire import parse_instant


@post("/faults")
async def add_fault(request: SimulatorRequest, simulator: SimulatorDependency) -> dict[str, int]:
    """Add a fault, given as JSON with its `kind`; return its number."""
    try:
        return {"number": simulator.add_fault(msgspec.json.decode(await request.body(), type=Fault))}
    except (msgspec.DecodeError, UnknownUser) as problem:
        raise ClientException(str(problem)) from problem


@delete("/faults")
async def clear_faults(simulator: SimulatorDependency) -> None:
    """Remove every fault."""
    simulator.clear_faults()


@delete("/faults/{number:int}")
async def remove_fault(number: FromPath[int], simulator: SimulatorDependency) -> None:
    """Remove one fault."""
    if not simulator.faults.remove(number):
        raise NotFoundException(f"No fault {number} is in force.")


@post("/users/{user:str}/revoke", status_code=204)
async def revoke(user: FromPath[str], simulator: SimulatorDependency) -> None:
    """Revoke every grant of the user, until the next login."""
    try:
        simulator.revoke(user)
    except UnknownUser as unknown:
        raise NotFoundException(str(unknown)) from unknown


@get("/state")
async def state_of(simulator: SimulatorDependency) -> dict[str, Any]:
    """Return users, live grants, active faults with the number of affected calls, and calls by endpoint and status."""
    limit = simulator.limit
    calls = {f"{endpoint} {status}": count for (endpoint, status), count in sorted(simulator.calls.items())}
    return {
        "now": simulator.now(),
        "users": [{"name": wearer.name, "title": wearer.title} for wearer in simulator.wearers],
        "grants": [msgspec.to_builtins(grant) for grant in simulator.grants.alive.values()],
        "faults": [
            {"number": number, "met": active.met, "fault": msgspec.to_builtins(active.fault)}
            for number, active in simulator.faults.all.items()
        ],
        "calls": calls,
        "limit": {
            "calls_per_hour": limit.calls_per_hour,
            "taken": limit.taken,
            "most_taken": limit.max_taken,
            "refused": limit.refused,
        },
    }


@get("/rotations")
async def rotations(simulator: SimulatorDependency) -> list[dict[str, Any]]:
    """Return every spent refresh token, by SHA-256, with `answered` for the delivery of its successor."""
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
        readings = simulator.truth(user, *window, simulator.now() if shown else None)
    except (ValueError, UnknownUser) as problem:
        raise ClientException(str(problem)) from problem
    return [msgspec.to_builtins(reading) for reading in readings]


ADMIN = Router(
    path="/admin", route_handlers=[add_fault, clear_faults, remove_fault, revoke, state_of, rotations, truth]
)
