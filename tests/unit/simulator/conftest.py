"""Fixtures of the simulator's tests: requests over HTTP, in process."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bg_ingest.simulator import SimulatorOptions, create_simulator
from tests.conftest import on
from tests.harness.simulator_visitor import SetClock, Visitor

anyio_backend = on("asyncio")

Visit = Callable[..., Visitor]


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def visit(clock: SetClock) -> AsyncIterator[Visit]:
    """Create a simulator with these options, and a client of it."""
    visitors: list[Visitor] = []

    def make(**options: Any) -> Visitor:
        journal = options.pop("journal", None)
        visitor = Visitor(create_simulator(SimulatorOptions(**options), now=clock, journal=journal))
        visitors.append(visitor)
        return visitor

    yield make
    for visitor in visitors:
        await visitor.http.aclose()
