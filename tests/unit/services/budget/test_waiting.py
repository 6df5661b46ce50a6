"""Sizes of reservations, retry times and calls per poll."""

from datetime import timedelta

import anyio
import pytest

from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.ports import Priority
from bg_ingest.services.budget.waiting import MIN_WAIT_SECONDS, CallsPerPoll, Permits, RetryTimes
from tests.conftest import on

anyio_backend = on("asyncio", "trio")

LIMIT = ProviderLimit(60_000)


@pytest.mark.parametrize(("size", "used", "expected"), [(4, 4, 8), (4, 3, 3), (4, 0, 1), (1, 1, 2)])
def test_the_next_reservation_is_twice_a_used_one_or_the_part_that_was_used(
    size: int, used: int, expected: int
) -> None:
    permits = Permits(size, valid_until=60.0)
    permits.remaining -= used
    assert permits.next_size == expected


async def test_retries_of_one_priority_are_spaced_at_its_rate() -> None:
    times = RetryTimes(LIMIT)
    waits = [times.next_wait(Priority.LIVE, 0.0).total_seconds() for _ in range(3)]
    spacing = 100 / (LIMIT.rate * Priority.LIVE)
    assert waits == pytest.approx([MIN_WAIT_SECONDS + number * spacing for number in (1, 2, 3)])
    assert times.next_wait(Priority.REFRESH, 0.0).total_seconds() < waits[1]


async def test_no_retry_comes_before_the_end_of_a_pause() -> None:
    times = RetryTimes(LIMIT)
    assert times.next_wait(Priority.LIVE, 120.0).total_seconds() > 120
    await anyio.sleep(200)
    assert times.next_wait(Priority.LIVE, 0.0).total_seconds() < 2


def test_refreshes_count_towards_the_calls_per_poll() -> None:
    calls_per_poll = CallsPerPoll(ProviderLimit(6_000))
    expected = calls_per_poll.estimate
    assert expected == pytest.approx(1 + 1 / 8 + 1 / 96)
    assert CallsPerPoll(ProviderLimit(6_000), timedelta(minutes=1)).estimate == pytest.approx(1 + 1 / 120 + 1 / 1440)
    for _ in range(10_000):
        calls_per_poll.count(is_poll=True)
        calls_per_poll.count(is_poll=False)
    assert calls_per_poll.estimate == pytest.approx(2, rel=0.02)
    for _ in range(20_000):
        calls_per_poll.count(is_poll=True)
    assert calls_per_poll.estimate < 1.02, "old calls no longer count"
