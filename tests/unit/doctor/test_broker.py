"""Findings about a broker: away, empty, waiting."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bg_ingest.adapters.rabbitmq.inspection import BrokerState
from bg_ingest.doctor import broker
from bg_ingest.doctor.broker import check_broker
from bg_ingest.doctor.finding import Finding, Verdict
from bg_ingest.errors import BrokerUnavailable
from bg_ingest.settings import Settings

OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED
CheckBroker = Callable[[BrokerState | Exception, str | None], Awaitable[list[Finding]]]
URL = "amqp://someone:secret@broker.test/"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> CheckBroker:
    """Return a function that checks a broker in the given state."""

    async def check_state(state: BrokerState | Exception, queue: str | None = None) -> list[Finding]:
        async def inspect(url: str, inspected: str | None) -> BrokerState:
            assert (url, inspected) == (URL, queue)
            if isinstance(state, Exception):
                raise state
            return state

        monkeypatch.setattr(broker, "inspect_broker", inspect)
        given: dict[str, Any] = {"rabbitmq_url": URL, "rabbitmq_queue": queue}
        return await check_broker(Settings(**given))

    return check_state


async def test_without_a_broker_there_is_nothing_to_check() -> None:
    assert await check_broker(Settings()) == []


@pytest.mark.parametrize(
    ("state", "queue", "verdicts"),
    [
        (BrokerUnavailable("RabbitMQ was lost."), None, [FAILED]),
        (BrokerState(exchange=True, waiting=None), None, [OK]),
        (BrokerState(exchange=False, waiting=None), None, [OK, WARNING]),
        (BrokerState(exchange=True, waiting=None), "events", [OK, WARNING]),
        (BrokerState(exchange=True, waiting=0, consumers=0), "events", [OK, OK]),
        (BrokerState(exchange=True, waiting=9, consumers=1), "events", [OK, OK]),
        (BrokerState(exchange=True, waiting=9, consumers=0), "events", [OK, WARNING]),
    ],
)
async def test_each_state_of_a_broker_has_its_verdict_and_advice(
    check: CheckBroker, state: BrokerState | Exception, queue: str | None, verdicts: list[Verdict]
) -> None:
    findings = await check(state, queue)
    assert [finding.verdict for finding in findings] == verdicts
    assert all(bool(finding.advice) is (finding.verdict is not OK) for finding in findings)
    assert "secret" not in str(findings)
