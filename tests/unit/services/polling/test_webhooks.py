"""Pushed readings are stored and published once, despite concurrent changes and failures."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from random import Random
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.ownership import UNOWNED
from bg_ingest.domain.polling import Outcome, PollState
from bg_ingest.domain.readings import Origin
from bg_ingest.errors import StoreUnavailable
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.data import record as simulated_record
from tests.fakes.faults import CallWrapper, Fault, FaultyCalls, StaleReads
from tests.harness.connected_user import ConnectedUser
from tests.harness.service import PROVIDER, START, ServiceHarness, open_service
from tests.harness.webhook_sender import envelope, record, records

ADA = ConnectionId(UserId("ada"), PROVIDER)
HOUR_AGO = START - timedelta(hours=1)
ZEROS = {"stored": 0, "duplicates": 0, "revised": 0, "quarantined": 0}
WORKER = f"/api/users/ada/connections/{PROVIDER}/worker"


class ConnectedSender:
    """Pushes Ada's records."""

    def __init__(self, service: ServiceHarness, provider_account: str) -> None:
        self.service = service
        self.provider_account = provider_account

    async def push(self, of: Any, webhook_id: str = "msg_1") -> httpx.Response:
        return await self.service.push(ADA.user, envelope(self.provider_account, of), webhook_id)

    async def counts(self, of: Any, webhook_id: str = "msg_1") -> dict[str, int]:
        answer = await self.push(of, webhook_id)
        assert answer.status_code == 202, answer.text
        counts: dict[str, int] = answer.json()
        return counts


@asynccontextmanager
async def open_sender(
    around: Callable[[Any], Any] = lambda table: table, simulated: SimulatorOptions | None = None
) -> AsyncIterator[ConnectedSender]:
    """Ada is connected without a backfill; no actors run."""
    async with open_service(around=around, simulated=simulated, defaults=PollDefaults(backfill_days=0)) as service:
        await service.connect(ADA.user)
        yield ConnectedSender(service, (await service.connection(ADA.user)).provider_account or "")


@pytest.fixture
async def sender() -> AsyncIterator[ConnectedSender]:
    async with open_sender() as opened:
        yield opened


async def series(service: ServiceHarness) -> list[tuple[datetime, int]]:
    return [(each.reading.measured_at, each.reading.glucose_mg_dl) for each in await service.stored_readings(ADA.user)]


async def publish_all(service: ServiceHarness) -> None:
    """Let the actors run until nothing waits. Ada is paused, so that they call no provider."""
    await service.api.patch(WORKER, json={"paused": True})
    async with service.running():
        await anyio.sleep(60)


def assert_published_once(service: ServiceHarness) -> None:
    """No change is missing or repeated, and no reading is in two of them."""
    numbers = service.event_numbers(ADA.user)
    assert numbers == list(range(1, len(numbers) + 1))
    published = [each["timestamp"] for event in service.event_data_of(ADA.user) for each in event.get("readings", ())]
    assert len(published) == len(set(published))


async def test_case_45_the_same_id_again_changes_nothing_with_any_body(sender: ConnectedSender) -> None:
    first = records(HOUR_AGO, 2)
    assert await sender.counts(first) == ZEROS | {"stored": 2}
    before = await sender.service.services.store.readings.head(ADA.user)
    assert await sender.counts(first) == ZEROS
    assert await sender.counts(records(START, 3)) == ZEROS
    assert await sender.service.services.store.readings.head(ADA.user) == before


async def test_other_ids_are_compared_reading_by_reading(sender: ConnectedSender) -> None:
    await sender.counts(records(HOUR_AGO, 2))
    mixed = [*records(HOUR_AGO, 1), record(HOUR_AGO + timedelta(minutes=5), 200), record(START)]
    expected = {"stored": 1, "duplicates": 1, "revised": 1, "quarantined": 0}
    assert await sender.counts(mixed, "msg_2") == expected
    assert await series(sender.service) == [
        (HOUR_AGO, 110),
        (HOUR_AGO + timedelta(minutes=5), 200),
        (START, 110),
    ]


async def test_a_late_repeat_does_not_bring_a_revised_value_back(sender: ConnectedSender) -> None:
    await sender.counts([record(HOUR_AGO, 100)], "first")
    await sender.counts([record(HOUR_AGO, 105)], "revision")
    await anyio.sleep(timedelta(days=3, hours=4).total_seconds())
    assert await sender.counts([record(HOUR_AGO, 100)], "first") == ZEROS
    assert await series(sender.service) == [(HOUR_AGO, 105)]


async def test_an_id_is_forgotten_one_day_though_its_readings_are_not(sender: ConnectedSender) -> None:
    await sender.counts(records(HOUR_AGO, 2))
    await anyio.sleep(timedelta(days=4, seconds=1).total_seconds())
    assert await sender.counts(records(HOUR_AGO, 2)) == ZEROS | {"duplicates": 2}


async def test_the_same_id_of_another_person_is_another_webhook(sender: ConnectedSender) -> None:
    await sender.service.connect("bob", "SandboxUser2")
    bobs = (await sender.service.connection("bob")).provider_account
    await sender.counts(records(HOUR_AGO, 2))
    answer = await sender.service.push("bob", envelope(bobs, records(HOUR_AGO, 3)))
    assert answer.json() == ZEROS | {"stored": 3}


async def test_events_say_that_it_was_a_webhook(sender: ConnectedSender) -> None:
    await sender.counts(records(HOUR_AGO, 2))
    await publish_all(sender.service)
    published = [each for each in sender.service.event_data_of("ada") if "readings" in each]
    assert [(each["origin"], len(each["readings"])) for each in published] == [(Origin.WEBHOOK, 2)]


async def test_a_webhook_moves_neither_watermark_nor_schedule(sender: ConnectedSender) -> None:
    before = await sender.service.connection("ada")
    await sender.counts(records(HOUR_AGO, 2))
    assert await sender.service.connection("ada") == before


async def test_a_paused_connection_still_stores(sender: ConnectedSender) -> None:
    await sender.service.api.patch(WORKER, json={"paused": True})
    assert await sender.counts(records(HOUR_AGO, 2)) == ZEROS | {"stored": 2}
    assert (await sender.service.api.get("/api/bg/ada/latest?view=full")).json()["state"] == "paused"


async def test_after_another_connect_the_old_ids_are_new_again(sender: ConnectedSender) -> None:
    await sender.counts(records(HOUR_AGO, 2))
    await sender.service.api.delete(f"/api/users/ada/connections/{PROVIDER}")
    assert (await sender.push(records(HOUR_AGO, 2))).status_code == 404
    await sender.service.connect("ada")
    assert await sender.counts(records(HOUR_AGO, 2)) == ZEROS | {"duplicates": 2}


async def test_unreadable_records_are_quarantined_and_the_rest_stored(sender: ConnectedSender) -> None:
    broken = [record(HOUR_AGO, None), {"systemTime": "soon"}, "no record", record(START, 110, unit="stone")]
    assert await sender.counts([*broken, *records(HOUR_AGO, 2)]) == ZEROS | {"stored": 2, "quarantined": 4}
    assert await sender.counts(broken, "msg_2") == ZEROS
    assert len(await series(sender.service)) == 2


@pytest.mark.slow
async def test_a_page_longer_than_a_commit_is_stored_whole(sender: ConnectedSender) -> None:
    start = START - timedelta(days=9)
    assert await sender.counts([record(start + number * timedelta(minutes=5)) for number in range(2_500)]) == (
        ZEROS | {"stored": 2_500}
    )
    await publish_all(sender.service)
    assert_published_once(sender.service)


@pytest.mark.parametrize("of", [(), None])
async def test_an_envelope_without_records_requests_one_poll(of: Any) -> None:
    async with open_sender(simulated=SimulatorOptions(delay_seconds=30)) as sender, sender.service.running():
        await anyio.sleep(60)
        calls = sender.service.simulator.calls
        before = calls["egvs", 200]
        assert await sender.counts(of) == ZEROS
        await anyio.sleep(10)
        assert calls["egvs", 200] == before + 1
        assert await sender.counts(of) == ZEROS
        await anyio.sleep(10)
        assert calls["egvs", 200] == before + 1


async def test_an_envelope_without_records_requests_no_poll_while_paused(sender: ConnectedSender) -> None:
    await sender.service.api.patch(WORKER, json={"paused": True})
    inbox = sender.service.services.store.inbox
    before = await inbox.list_requests(UNOWNED)
    assert before, "the pause itself is a request"
    await anyio.sleep(1)
    assert await sender.counts(()) == ZEROS
    assert await inbox.list_requests(UNOWNED) == before


@pytest.mark.slow
@pytest.mark.parametrize("lead", [-0.2, 0, 0.2])
async def test_case_46_a_webhook_and_a_poll_that_bring_the_same_readings_at_once_store_and_publish_them_once(
    lead: float,
) -> None:
    async with open_sender(around=lambda table: StaleReads(table, Random(7))) as sender:
        service = sender.service
        shown = service.simulator.truth("SandboxUser1", HOUR_AGO, START, START)
        seed = service.simulator.options.seed
        pushed = [msgspec.to_builtins(simulated_record(seed, "SandboxUser1", each)) for each in shown]
        assert len(pushed) >= 10
        outcomes: list[int] = []

        async def poll() -> None:
            await anyio.sleep(max(0, -lead))
            report = await service.services.poller.poll(ADA, 1, PollState(), requested=True)
            assert report.result.outcome in (Outcome.READ, Outcome.NOTHING_NEW)
            outcomes.append(report.result.recorded)

        async def push() -> None:
            await anyio.sleep(max(0, lead))
            counts = await sender.counts(pushed)
            assert counts["stored"] + counts["duplicates"] == len(pushed)
            assert counts["revised"] == 0
            outcomes.append(counts["stored"])

        async with anyio.create_task_group() as group:
            group.start_soon(poll)
            group.start_soon(push)
        everything = await series(service)
        assert sum(outcomes) == len(everything) == len(set(everything)) >= len(pushed)
        await publish_all(service)
        assert_published_once(service)


@pytest.mark.slow
async def test_the_same_webhook_many_times_at_once_is_stored_and_published_once() -> None:
    async with open_sender(around=lambda table: StaleReads(table, Random(3))) as sender:
        stored: list[int] = []

        async def push() -> None:
            stored.append((await sender.counts(records(HOUR_AGO, 5)))["stored"])

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(push)
        assert sorted(stored) == [0] * 7 + [5]
        assert len(await series(sender.service)) == 5
        await publish_all(sender.service)
        assert_published_once(sender.service)


class InterruptedTable(CallWrapper):
    """Runs a function just before the next transaction or another call, or after its answer (``<call>_answered``)."""

    interruption: Callable[[], Awaitable[object]] | None = None
    before = "transact"

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if name == self.before and self.interruption is not None:
            happening, self.interruption = self.interruption, None
            await happening()
        answer = await call()
        if name + "_answered" == self.before and self.interruption is not None:
            happening, self.interruption = self.interruption, None
            await happening()
        return answer


@pytest.mark.parametrize(("again", "status"), [(False, 404), (True, 202)])
async def test_a_connection_that_changes_meanwhile_is_read_again(*, again: bool, status: int) -> None:
    async with open_sender(around=InterruptedTable) as sender:
        service = sender.service

        async def disconnect() -> None:
            await service.api.delete(f"/api/users/ada/connections/{PROVIDER}")
            if again:
                await service.connect("ada")

        service.table.interruption = disconnect  # type: ignore[attr-defined]  # it is a Meanwhile
        assert (await sender.push(records(HOUR_AGO, 2))).status_code == status
        assert len(await series(service)) == (2 if again else 0)


async def test_a_push_does_not_undo_a_pause_that_it_did_not_see() -> None:
    async with open_sender(around=InterruptedTable) as sender:
        service = sender.service

        async def pause() -> None:
            answer = await service.api.patch(f"/api/users/ada/connections/{PROVIDER}/worker", json={"paused": True})
            assert answer.status_code == 200

        service.table.interruption = pause  # type: ignore[attr-defined]  # it is a Meanwhile
        assert (await sender.push(records(HOUR_AGO, 2))).status_code == 202
        latest = (await service.api.get("/api/bg/ada/latest?view=full")).json()
        assert latest["state"] == "paused"


@pytest.mark.slow
async def test_a_burst_of_pushes_for_one_user_is_stored_without_a_refusal() -> None:
    async with open_sender(around=lambda table: StaleReads(table, Random(5))) as sender:
        statuses: list[int] = []

        async def push(number: int) -> None:
            pushed = [record(HOUR_AGO + number * timedelta(seconds=20))]
            statuses.append((await sender.push(pushed, f"msg_{number}")).status_code)

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(push, number)
        assert statuses == [202] * 40
        assert len(await series(sender.service)) == 40
        await publish_all(sender.service)
        assert_published_once(sender.service)


class ProcessKilled(BaseException):
    """The process ends here."""


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
@pytest.mark.parametrize("error", [StoreUnavailable, ProcessKilled])
async def test_broken_off_at_any_call_the_same_id_sent_again_has_its_whole_effect_once(
    fault: Fault, error: type[BaseException]
) -> None:
    breaking_at, calls = 0, 0

    def plan(_: int) -> Fault | None:
        nonlocal calls
        calls += 1
        return fault if calls == breaking_at else None

    async with open_sender(around=lambda table: FaultyCalls(table, plan, error=error)) as sender:  # type: ignore[arg-type]  # also the exceptions that end a process
        expected: list[tuple[datetime, int]] = []
        number, whole = 0, False
        while not whole:
            number += 1
            start = START - number * timedelta(days=3)
            pushed = [*(record(start + hours * timedelta(hours=1)) for hours in range(60)), {"systemTime": str(number)}]
            expected = [*((start + hours * timedelta(hours=1), 110) for hours in range(60)), *expected]
            breaking_at, calls = number, 0
            with suppress(ProcessKilled):
                whole = (await sender.push(pushed, f"msg_{number}")).status_code == 202
            breaking_at = 0
            assert (await sender.push(pushed, f"msg_{number}")).status_code == 202
            assert set(expected) <= set(await series(sender.service))
        assert number > 8, "every call was broken once"
        assert len(await series(sender.service)) == len(set(expected))
        await publish_all(sender.service)
        assert_published_once(sender.service)


async def test_an_id_counts_as_seen_only_after_its_data() -> None:
    broken = False

    def plan(_: int) -> Fault | None:
        return Fault.BEFORE if broken else None

    async with open_sender(around=lambda table: FaultyCalls(table, plan, only=["transact"])) as sender:
        broken = True
        assert (await sender.push(records(HOUR_AGO, 2))).status_code == 503
        broken = False
        assert await sender.counts(records(HOUR_AGO, 2)) == ZEROS | {"stored": 2}


async def test_an_equal_webhook_in_progress_does_not_undo_a_revision_made_meanwhile() -> None:
    async with open_sender(around=InterruptedTable) as sender:
        first = [record(HOUR_AGO, 100)]

        async def store_both() -> None:
            assert await sender.counts(first, "msg_1") == ZEROS | {"stored": 1}
            assert await sender.counts([record(HOUR_AGO, 105)], "msg_2") == ZEROS | {"revised": 1}

        service = sender.service
        service.table.before = "batch_get_answered"  # type: ignore[attr-defined]  # it is a Meanwhile
        service.table.interruption = store_both  # type: ignore[attr-defined]
        assert await sender.counts(first, "msg_1") == ZEROS
        assert await series(service) == [(HOUR_AGO, 105)]


async def test_a_poll_does_not_undo_a_revision_that_a_webhook_stores_during_its_call() -> None:
    async with open_sender(around=InterruptedTable) as sender:
        ada = ConnectedUser(sender.service)
        await ada.poll(requested=True)
        (known_at, known_value) = (await series(sender.service))[-1]
        (shown,) = sender.service.simulator.truth("SandboxUser1", known_at, known_at, START)
        revision = simulated_record(sender.service.simulator.options.seed, "SandboxUser1", shown)
        await anyio.sleep(timedelta(minutes=5).total_seconds())

        async def revise() -> None:
            pushed = [msgspec.to_builtins(revision) | {"value": known_value + 5}]
            assert await sender.counts(pushed) == ZEROS | {"revised": 1}

        sender.service.table.before = "batch_get_answered"  # type: ignore[attr-defined]  # it is a Meanwhile
        sender.service.table.interruption = revise  # type: ignore[attr-defined]
        result = (await ada.poll(requested=True)).result
        assert (result.recorded, result.revised) == (1, 0)
        assert dict(await series(sender.service))[known_at] == known_value + 5
