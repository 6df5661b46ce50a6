"""HTTP applications of this test process, lent to one test after the other: to build one takes 30 ms."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from litestar import Litestar
from litestar.datastructures import State

from bg_ingest.api.app import build_state, create_api
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.services import Services

_idle: list[Litestar] = []


@contextmanager
def borrow_api(services: Services, metrics: MetricsRegistry, **options: Any) -> Iterator[Litestar]:
    """Lend an application whose whole state is made for the borrower; `options` are those of `build_state`.

    Nothing else differs between applications. Two borrowers at the same time have one each.
    """

    async def exposition() -> bytes:
        return metrics.text()  # on the loop: its clock is not another thread's

    state = build_state(exposition=exposition, **options)
    state.services = services
    app = _idle.pop() if _idle else create_api(State(state.dict()))
    app.state.clear()
    app.state.update(state)
    routes = len(app.routes)
    try:
        yield app
    finally:
        assert len(app.routes) == routes, "the next borrower would have the added routes"
        app.state.clear()
        _idle.append(app)
