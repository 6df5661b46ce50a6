"""Steps that lost a race: repeated within limits of number and time, then ended by one error."""

from collections.abc import Callable

import anyio
import pytest

from bg_ingest.errors import ConnectRefused, Fenced, StaleRead, StoreUnavailable, TransactionConflict
from bg_ingest.services.retries import retrying
from tests.conftest import on

anyio_backend = on("asyncio", "trio")


class Step:
    """Fails this many times; each run takes ``seconds``."""

    def __init__(self, failures: int, error: Callable[[], Exception] = StaleRead, seconds: float = 0.0) -> None:
        self.runs = 0
        self._failures = failures
        self._error = error
        self._seconds = seconds

    async def __call__(self) -> int:
        self.runs += 1
        await anyio.sleep(self._seconds)
        if self.runs <= self._failures:
            raise self._error()
        return self.runs


async def test_a_lost_race_repeats_the_step() -> None:
    step = Step(failures=9)
    assert await retrying(StaleRead)(step)() == 10


async def test_after_the_last_try_the_error_is_of_the_store() -> None:
    step = Step(failures=10)
    with pytest.raises(StoreUnavailable, match="too many writers at once"):
        await retrying(StaleRead)(step)()
    assert step.runs == 10


async def test_a_use_case_may_have_fewer_tries_and_its_own_error() -> None:
    step = Step(failures=5, error=Fenced)
    with pytest.raises(ConnectRefused, match="start again"):
        await retrying(Fenced, tries=5, error=lambda: ConnectRefused("Please start again."))(step)()
    assert step.runs == 5


async def test_any_other_error_leaves_at_once() -> None:
    step = Step(failures=1, error=Fenced)
    with pytest.raises(Fenced):
        await retrying(StaleRead, TransactionConflict)(step)()
    assert step.runs == 1


async def test_no_try_begins_after_a_failure_past_the_deadline() -> None:
    step = Step(failures=10, seconds=2.0)
    with pytest.raises(StoreUnavailable):
        await retrying(StaleRead, deadline=5.0)(step)()
    assert step.runs == 3


async def test_without_a_first_wait_the_next_try_follows_at_once() -> None:
    began = anyio.current_time()
    await retrying(StaleRead)(Step(failures=9))()
    assert anyio.current_time() == began


async def test_waits_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bg_ingest.services.retries.uniform", lambda low, high: low + high)
    began = anyio.current_time()
    await retrying(StaleRead, first_wait=0.01, max_wait=0.04)(Step(failures=4))()
    assert anyio.current_time() - began == pytest.approx(0.01 + 0.02 + 0.04 + 0.04)
