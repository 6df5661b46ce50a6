"""asyncio only, as in the server; actors alone are tested on both backends."""

from collections.abc import Iterator

import pytest

from tests.conftest import on
from tests.harness.failing_log import LOG_FAULTS, failing_log

anyio_backend = on("asyncio")


@pytest.fixture(params=["log", pytest.param("no log", marks=pytest.mark.slow)])
def with_and_without_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a story twice: its outcome is the same while no line of the log can be written (F1)."""
    if request.param == "log":
        yield
        return
    with failing_log(LOG_FAULTS) as dropped:
        yield
    assert dropped, "the story logs nothing"
