"""HTTP applications of this test process, lent to one test after the other: to build one takes 15 to 30 ms."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from litestar import Litestar
from litestar.datastructures import State

from bg_ingest.api.app import build_state, create_api
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.services import Services
from bg_ingest.simulator import Simulator
from bg_ingest.simulator.app import SimulatorApp, create_simulator_app

_idle_apis: list[Litestar] = []
_idle_simulators: list[Litestar] = []


def borrow_api(services: Services, metrics: MetricsRegistry, **options: Any) -> AbstractContextManager[Litestar]:
    """Lend the API over a state of the borrower's own; `options` are those of `build_state`."""

    async def exposition() -> bytes:
        return metrics.text()  # on the loop: its clock is not another thread's

    state = build_state(exposition=exposition, **options)
    state.services = services
    return _borrow(_idle_apis, create_api, state)


def borrow_simulator(simulator: Simulator) -> AbstractContextManager[Litestar]:
    """Lend the application of the simulated provider over a simulator of the borrower's own."""
    return _borrow(_idle_simulators, create_simulator_app, State({"simulator": simulator}))


def forbid_simulator_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that sends a request to the HTTP application of a simulator."""

    async def fail(*_: object) -> None:
        pytest.fail("a use case is tested without the HTTP application of the simulator: leave out over_http")

    monkeypatch.setattr(SimulatorApp, "__call__", fail)


@contextmanager
def _borrow(idle: list[Litestar], create: Callable[[State], Litestar], state: State) -> Iterator[Litestar]:
    """Lend an application with this state. Two borrowers at the same time have one each.

    Everything that differs between applications of one kind is in their state, and that is replaced as a whole.
    """
    app = idle.pop() if idle else create(State(state.dict()))
    app.state.clear()
    app.state.update(state)
    routes = len(app.routes)
    try:
        yield app
    finally:
        assert len(app.routes) == routes, "the next borrower would have the added routes"
        app.state.clear()
        idle.append(app)
