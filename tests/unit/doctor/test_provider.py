"""Reachability of a provider, and this clock against the provider's."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from bg_ingest.doctor.finding import Finding, Verdict
from bg_ingest.doctor.provider import check_provider
from bg_ingest.providers.http import http_client
from tests.fakes.clock import NOON, SetClock

URL = "https://provider.test/readings"


def verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    return {each.check: each.verdict for each in findings}


async def check_answer(answer: httpx.Response | Exception, now: datetime = NOON) -> list[Finding]:
    def answered(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with http_client(httpx.MockTransport(answered)) as http:
        return await check_provider("acme", URL, http, SetClock(now))


def dated_answer(at: datetime, status: int = 401) -> httpx.Response:
    return httpx.Response(status, headers={"date": format_datetime(at.astimezone(UTC), usegmt=True)})


@pytest.mark.parametrize(
    ("skew", "verdict", "said"),
    [(0, Verdict.OK, "0 seconds"), (40, Verdict.WARNING, "40 seconds ahead"), (-400, Verdict.FAILED, "seconds behind")],
)
async def test_the_clock_is_held_against_the_providers(skew: int, verdict: Verdict, said: str) -> None:
    provider, clock = await check_answer(dated_answer(NOON), NOON + timedelta(seconds=skew))
    assert provider.verdict is Verdict.OK, "that it wants credentials shows that it is there"
    assert clock.verdict is verdict
    assert said in clock.found
    assert bool(clock.advice) is (verdict is not Verdict.OK)


async def test_an_unreachable_or_failing_provider_is_reported() -> None:
    (unreachable,) = await check_answer(httpx.ConnectError("no way"))
    assert (unreachable.verdict, bool(unreachable.advice)) == (Verdict.FAILED, True)
    assert verdicts(await check_answer(dated_answer(NOON, 503)))["provider"] is Verdict.WARNING
    assert verdicts(await check_answer(httpx.Response(200))) == {"provider": Verdict.OK}, "no date, no clock"
