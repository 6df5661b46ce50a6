"""Send made-up webhooks to the whole service in process, and compare each answer with the specification.

``python -m tests.fuzz.pushing 100000 [seed]`` is the long run; the suite does 2,000.
"""

import sys
from collections import Counter
from collections.abc import Callable

import anyio
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bg_ingest.domain.connections import PollDefaults
from tests.conftest import VirtualTimeLoop
from tests.fuzz.webhooks import GENUINE, Attempt, attempts, is_right, may_be_right
from tests.harness.service import ServiceHarness, open_service

CONCURRENCY = 50
"""Attempts per service. Earlier ones are known to it and may be sent again."""


async def send(service: ServiceHarness, attempt: Attempt) -> int:
    answer = await service.api.post("/api/bg/ada/webhook", content=attempt.body, headers=[*attempt.headers])
    return answer.status_code


async def check_answer(service: ServiceHarness, attempt: Attempt, tally: Counter[str]) -> None:
    """Send one webhook; fail if it is accepted against the specification, refused against it, or answered by a 5xx."""
    before = await service.stored_readings("ada")
    status, right = await send(service, attempt), is_right(attempt)
    assert status < 500, (status, attempt)
    if right is False:
        assert status == 401, (status, attempt)
    elif right:
        assert status == 202 if attempt.body in GENUINE else status in {400, 404, 202}, (status, attempt)
    if status == 202:
        assert may_be_right(attempt), attempt
    else:
        assert await service.stored_readings("ada") == before, attempt
    tally[f"{status} {'twice' if right is None else 'right' if right else 'wrong'}"] += 1


async def try_all(batch: list[Attempt], tally: Counter[str]) -> None:
    async with open_service(over_http=True, defaults=PollDefaults(backfill_days=0)) as service:
        await service.connect("ada")
        for attempt in batch:
            await check_answer(service, attempt, tally)
        for attempt in batch[:3]:  # replayed: an accepted webhook is accepted again, without an effect
            stored = await service.stored_readings("ada")
            await check_answer(service, attempt, tally)
            assert await service.stored_readings("ada") == stored or is_right(attempt) is None


def run(attempt_count: int, first_seed: int = 1, on_progress: Callable[[int], object] | None = None) -> Counter[str]:
    """Make attempts, the same for each seed; return the counts of answers. ``on_progress`` gets the attempts so far."""
    tally: Counter[str] = Counter()

    @seed(first_seed)
    @settings(
        max_examples=-(-attempt_count // CONCURRENCY),
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(attempts(), min_size=CONCURRENCY, max_size=CONCURRENCY))
    def try_batch(batch: list[Attempt]) -> None:
        # In virtual time: it does not advance while the machine is slow, so ages of webhooks are exact to the second.
        anyio.run(try_all, batch, tally, backend_options={"loop_factory": VirtualTimeLoop})
        if on_progress is not None:
            on_progress(tally.total())

    try_batch()
    return tally


if __name__ == "__main__":
    attempt_count = int(sys.argv[1])
    tally = run(
        attempt_count,
        int((sys.argv[2:] or ["1"])[0]),
        lambda tried: sys.stderr.write(f"\r{tried} of {attempt_count} webhooks "),
    )
    sys.stdout.write(f"\n{tally.total()} webhooks tried: {dict(sorted(tally.items()))}\n")
    sys.exit(0 if tally.total() >= attempt_count else 1)
