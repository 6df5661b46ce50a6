"""Broker unreachable, refusing, or with waiting events; reachability of a provider, and skew of this clock."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from bg_ingest.adapters.rabbitmq.topology import EventQueue, QueueState, Topology
from bg_ingest.doctor import Finding, Verdict, remote
from bg_ingest.doctor.remote import BROKER_ADVICE, check_broker, check_provider
from bg_ingest.domain.replica_status import BrokerState
from bg_ingest.errors import BrokerRefused, BrokerUnavailable
from bg_ingest.providers.http_client import http_client
from bg_ingest.settings import Settings
from tests.fakes.clock import NOON, SetClock

OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED
CheckBroker = Callable[[Topology | Exception, str | None], Awaitable[list[Finding]]]
BROKER_URL = "amqp://someone:secret@broker.test/"
QUEUE, STREAM = EventQueue("events"), EventQueue("log", "7D")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> CheckBroker:
    """Return a function that checks a broker in the given state."""

    async def check_state(state: Topology | Exception, queue: str | None = None) -> list[Finding]:
        async def inspect(url: str, inspected: Sequence[EventQueue]) -> Topology:
            assert (url, inspected) == (BROKER_URL, (QUEUE,) if queue else ())
            if isinstance(state, Exception):
                raise state
            return state

        monkeypatch.setattr(remote, "try_broker", inspect)
        given: dict[str, Any] = {"rabbitmq_url": BROKER_URL, "rabbitmq_queue": queue}
        return await check_broker(Settings(**given))

    return check_state


def test_each_refusal_of_a_broker_has_its_advice() -> None:
    assert {f"{part}_refused" for part in BROKER_ADVICE} == {state for state in BrokerState if state.is_refused}


async def test_without_a_broker_there_is_nothing_to_check() -> None:
    assert await check_broker(Settings()) == []


@pytest.mark.parametrize(
    ("state", "queue", "verdicts"),
    [
        (BrokerUnavailable("RabbitMQ was lost."), None, [FAILED]),
        *((BrokerRefused(part, "RabbitMQ refuses."), None, [FAILED]) for part in BROKER_ADVICE),
        (Topology(is_type_known=True), None, [OK]),
        (Topology(is_type_known=False), None, [OK, WARNING]),
        (Topology(is_type_known=True, queues=(QueueState(QUEUE, True, 0, 0),)), "events", [OK, OK]),
        (Topology(is_type_known=True, queues=(QueueState(QUEUE, True, 9, 1),)), "events", [OK, OK]),
        (Topology(is_type_known=True, queues=(QueueState(QUEUE, True, 9, 0),)), "events", [OK, WARNING]),
        (Topology(is_type_known=False, queues=(QueueState(QUEUE, False, 0, 1),)), "events", [OK, WARNING, WARNING, OK]),
    ],
)
async def test_each_state_of_a_broker_has_its_verdict_and_advice(
    check: CheckBroker, state: Topology | Exception, queue: str | None, verdicts: list[Verdict]
) -> None:
    findings = await check(state, queue)
    assert [finding.verdict for finding in findings] == verdicts
    assert all(bool(finding.advice) is (finding.verdict is not OK) for finding in findings)
    assert "secret" not in str(findings)


async def test_events_that_remain_in_a_stream_do_not_wait_for_a_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def inspect(_: str, queues: Sequence[EventQueue]) -> Topology:
        return Topology(is_type_known=True, queues=tuple(QueueState(queue, queue == QUEUE, 9, 0) for queue in queues))

    monkeypatch.setattr(remote, "try_broker", inspect)
    given: dict[str, Any] = {
        "rabbitmq_url": BROKER_URL,
        "rabbitmq_queue": QUEUE.name,
        "rabbitmq_stream": STREAM.name,
        "rabbitmq_stream_max_age": STREAM.max_age,
    }
    _, queue, unbound, stream = await check_broker(Settings(**given))
    assert (queue.verdict, queue.advice) == (WARNING, "start a consumer")
    assert (unbound.verdict, "log" in unbound.found) == (WARNING, True)
    assert (stream.verdict, stream.found) == (OK, "the stream log exists")


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
    ("skew", "verdict", "text"),
    [(0, Verdict.OK, "0 seconds"), (40, Verdict.WARNING, "40 seconds ahead"), (-400, Verdict.FAILED, "seconds behind")],
)
async def test_the_clock_is_held_against_the_providers(skew: int, verdict: Verdict, text: str) -> None:
    provider, clock = await check_answer(dated_answer(NOON), NOON + timedelta(seconds=skew))
    assert provider.verdict is Verdict.OK, "a demand for credentials shows that the server is reachable"
    assert clock.verdict is verdict
    assert text in clock.found
    assert bool(clock.advice) is (verdict is not Verdict.OK)


async def test_an_unreachable_or_failing_provider_is_reported() -> None:
    (unreachable,) = await check_answer(httpx.ConnectError("no way"))
    assert (unreachable.verdict, bool(unreachable.advice)) == (Verdict.FAILED, True)
    assert verdicts(await check_answer(dated_answer(NOON, 503)))["provider"] is Verdict.WARNING
    assert verdicts(await check_answer(httpx.Response(200))) == {"provider": Verdict.OK}, "no date, no clock"
