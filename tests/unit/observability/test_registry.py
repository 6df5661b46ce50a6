"""Metrics of the whole service, scraped as by Prometheus."""

from datetime import timedelta
from typing import Any

import anyio
import pytest

from bg_ingest.observability.registry import SharedText
from bg_ingest.simulator.faults import Failed, Throttled
from tests.fakes.faults import Fault, FaultyCalls, every
from tests.harness.connected_user import ConnectedUser
from tests.harness.scrape import scrape
from tests.harness.service import ServiceHarness, open_service
from tests.harness.webhook_sender import envelope, records

HOUR = timedelta(hours=1)


@pytest.mark.slow
async def test_a_day_with_readings_is_counted_from_the_call_to_the_confirmed_event(service: ServiceHarness) -> None:
    async with service.running():
        await service.connect("ada")
        await anyio.sleep(3600)
        metrics = await scrape(service)
    stored = len(await service.stored_readings("ada"))
    assert metrics("readings_total", outcome="recorded") == stored
    assert metrics("readings_total", outcome="recorded", origin="live") == 12
    assert metrics("readings_total", outcome="duplicate", origin="live") > 100
    assert metrics("connection_changes_total", state="active") == 1
    opened_gaps = await service.api.get("/api/bg/ada/gaps?from=2026-01-01")
    assert metrics("gaps_total", outcome="opened") == len(opened_gaps.json()) > 0
    assert metrics("poll_seconds_count", origin="live", outcome="read") == 4
    calls = {name: count for (name, status), count in service.simulator.calls.items() if status == 200}
    assert metrics("provider_call_seconds_count", call="readings", outcome="ok") == calls["egvs"]
    event_count = metrics("event_seconds_count")
    assert event_count == len(service.events) == metrics("event_seconds_count", outcome="confirmed")
    assert metrics("event_age_seconds_count") == event_count
    assert metrics("outbox_waiting") == metrics("outbox_oldest_seconds") == 0
    assert metrics("connections") == 1
    assert metrics("store_call_seconds_count", call="transact", outcome="ok") > 5
    assert metrics("http_request_seconds_count", route="/api/users/{user_id}/connections/{provider}") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "outcome", "label"),
    [
        (Throttled(endpoint="egvs", count=1), "provider_throttled", "throttled"),
        (Failed(endpoint="egvs", count=1), "provider_unavailable", "unavailable"),
        (Failed(endpoint="egvs", status=403, count=1), "provider_forbidden", "forbidden"),
    ],
)
async def test_the_failures_of_a_provider_are_distinguished(
    service: ServiceHarness, fault: Any, outcome: str, label: str
) -> None:
    async with service.running():
        await service.connect("ada")
        await anyio.sleep(1)
        service.simulator.add_fault(fault)
        await anyio.sleep(1000)
        metrics = await scrape(service)
    assert metrics("provider_call_seconds_count", call="readings", outcome=outcome) == 1
    assert metrics("poll_seconds_count", outcome=label) == 1


async def test_a_refresh_is_a_call_of_its_own(service: ServiceHarness) -> None:
    ada = ConnectedUser(service)
    await ada.connect()
    await ada.sleep_until_expired()
    await ada.poll()
    assert (await scrape(service))("provider_call_seconds_count", call="refresh", outcome="ok") == 1


async def test_pushed_readings_are_counted_by_result(service: ServiceHarness) -> None:
    ada = ConnectedUser(service)
    await ada.connect()
    body = envelope((await ada.connection()).provider_account, records(service.clock.now() - HOUR, 3))
    assert (await service.push("ada", body)).status_code == 202
    assert (await service.push("ada", body, webhook_signature="v1,no")).status_code == 401
    metrics = await scrape(service)
    assert metrics("readings_total", origin="webhook") > 0
    for status in ("202", "401"):
        assert metrics("http_request_seconds_count", route="/api/bg/{user_id}/webhook", status=status) == 1


async def test_webhooks_are_counted_by_provider_and_result(service: ServiceHarness) -> None:
    ada = ConnectedUser(service)
    await ada.connect()
    account = (await ada.connection()).provider_account
    body = envelope(account, records(service.clock.now() - HOUR, 3))
    for _ in range(2):
        await service.push("ada", body)
    await service.push("ada", envelope(account, []), "msg_2")
    await service.push("ada", body, "msg_3", webhook_signature="v1,no")
    await service.push("ada", body, "msg_4", webhook_timestamp=str(int((service.clock.now() - HOUR).timestamp())))
    await service.push("ada", b"[]", "msg_5")
    await service.push("eva", body, "msg_6")
    await service.push("a b", body, "msg_7")
    metrics = await scrape(service)
    counted = {"accepted": 2, "duplicate": 1}
    refused = {"invalid_signature": 1, "stale_signature": 1, "invalid_body": 1, "unknown": 1, "invalid_user_id": 1}
    for provider, results in (("dexcom", counted), ("none", refused)):
        assert {name: metrics("webhooks_total", provider=provider, result=name) for name in results} == results
    assert metrics("webhooks_total") == 8, "each once"


async def test_a_store_that_fails_is_seen_to_fail() -> None:
    async with open_service(around=lambda table: FaultyCalls(table, every(3, Fault.BEFORE))) as service:
        for _ in range(9):
            await service.api.get("/api/bg/nobody/latest")
        metrics = await scrape(service)
    assert metrics("store_call_seconds_count", call="get", outcome="store_unavailable") == 3
    assert metrics("http_request_seconds_count", status="503") == 3


async def test_s1_concurrent_scrapes_share_a_text_that_is_built_after_each_arrived() -> None:
    begun = 0

    async def build() -> bytes:
        nonlocal begun
        begun += 1
        number = begun
        await anyio.sleep(0.1)
        return str(number).encode()

    shared, answers = SharedText(build), list[tuple[int, bytes]]()

    async def scrape_once() -> None:
        before = begun
        answers.append((before, await shared.get()))

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(scrape_once)
            await anyio.sleep(0.01)
    assert len(answers) == 100
    assert all(int(text) > before for before, text in answers)
    assert begun <= 6, "builds begin at most every quarter of a second"
    assert int(await shared.get()) == begun
