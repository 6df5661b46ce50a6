"""Slow bodies of senders without proof do not block signed webhooks."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest

from bg_ingest.api.problems import ProblemError
from bg_ingest.api.webhook_slots import (
    MAX_UNVERIFIED_BYTES,
    MAX_VERIFIED,
    MAX_WEBHOOK_BYTES,
    MAX_WRITE_BYTES,
    MIN_SLOT_BYTES,
    MIN_WRITE_BYTES,
    WebhookSlot,
    WebhookSlots,
    WriteSlots,
)
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.simulator import SimulatorOptions
from tests.fakes.faults import CallWrapper
from tests.harness.service import START, ServiceHarness, open_service
from tests.harness.webhook_sender import envelope, raw, records, signed
from tests.unit.api.test_webhooks import HOUR_AGO, SlowBody, account


@pytest.fixture
async def service() -> AsyncIterator[ServiceHarness]:
    async with open_service(defaults=PollDefaults(backfill_days=0)) as service:
        await service.connect("ada")
        yield service


class SlowSenders:
    """Senders of bodies without proof: their announced length, and their pace."""

    def __init__(self, service: ServiceHarness, announced: int | None, piece: bytes, pause: float) -> None:
        self._service = service
        self._announced = announced
        self._piece, self._pause = piece, pause
        self.statuses: list[int] = []

    async def send(self) -> None:
        headers = {**signed(b"", "msg_1", self._service.clock.now()), "host": "ingest.test"}
        if self._announced is not None:
            headers["content-length"] = str(self._announced)
        body = SlowBody(self._piece, self._pause)
        request = httpx.Request("POST", "https://ingest.test/api/bg/ada/webhook", headers=raw(headers), stream=body)
        self.statuses.append((await self._service.api.send(request)).status_code)


@pytest.mark.parametrize(
    ("announced", "piece", "pause"),
    [(None, b" ", 1), (MAX_WEBHOOK_BYTES, b" ", 1), (MAX_WEBHOOK_BYTES, b" " * 1_000, 0.5), (1_000, b" ", 1)],
)
async def test_s9_slow_bodies_without_proof_do_not_block_signed_webhooks(
    service: ServiceHarness, announced: int | None, piece: bytes, pause: float
) -> None:
    senders = SlowSenders(service, announced, piece, pause)
    body = envelope(await account(service), records(HOUR_AGO, 1))
    async with anyio.create_task_group() as group:
        for _ in range(70):
            group.start_soon(senders.send)
        for number in range(5):
            await anyio.sleep(0.5)
            assert (await service.push("ada", body, f"msg_{number}")).status_code == 202
            group.start_soon(senders.send)
        group.cancel_scope.cancel()


async def test_s9_an_ended_sender_may_send_again(service: ServiceHarness) -> None:
    senders = SlowSenders(service, None, b" ", 1)
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(senders.send)
    assert sorted(set(senders.statuses)) == [408, 503]
    assert senders.statuses.count(503) == 2
    assert (await service.push("ada", envelope(await account(service), records(START, 1)))).status_code == 202


async def receive_bytes(slot: WebhookSlot, count: int) -> None:
    async def receive() -> object:
        return {"type": "http.request", "body": bytes(count), "more_body": True}

    await slot.count_received(receive)()  # type: ignore[arg-type]


async def test_s9_the_slowest_without_proof_is_ended_first() -> None:
    slots = WebhookSlots()
    whole = MAX_UNVERIFIED_BYTES // MAX_WEBHOOK_BYTES
    ended, problems = list[int](), set[str]()

    async def hold(number: int) -> None:
        try:
            with slots.reserve(None) as slot:
                await receive_bytes(slot, 0 if number == 7 else 100_000)
                if number == 3:
                    slots.mark_verified(slot)
                await anyio.sleep_forever()
        except ProblemError as error:
            problems.add(error.problem.type)
            ended.append(number)

    async with anyio.create_task_group() as group:
        for number in range(whole):
            group.start_soon(hold, number)
        await anyio.sleep(1)
        with slots.reserve(None), slots.reserve(None):
            await anyio.sleep(0.1)
            assert ended == [7], "a verified one leaves room for one more"
            assert problems == {"too-many-webhooks"}
        group.cancel_scope.cancel()


async def test_s9_room_is_kept_for_webhooks_that_arrive_at_once() -> None:
    slots = WebhookSlots()
    async with anyio.create_task_group() as group:

        async def hold(announced: int) -> None:
            with slots.reserve(announced):
                await anyio.sleep_forever()

        for _ in range(MAX_UNVERIFIED_BYTES // MIN_SLOT_BYTES):
            group.start_soon(hold, 1)
        await anyio.sleep(1)
        for _ in range(100):
            with slots.reserve(MAX_WEBHOOK_BYTES) as slot:
                slots.mark_verified(slot)
        group.cancel_scope.cancel()


async def test_s9_verified_webhooks_are_bounded_and_never_ended() -> None:
    slots = WebhookSlots()
    held: list[WebhookSlot] = []
    async with anyio.create_task_group() as group:

        async def hold() -> None:
            with slots.reserve(1_000) as slot:
                slots.mark_verified(slot)
                held.append(slot)
                await anyio.sleep_forever()

        for _ in range(MAX_VERIFIED):
            group.start_soon(hold)
        await anyio.sleep(1)
        with pytest.raises(ProblemError, match="Too many webhooks"), slots.reserve(1_000) as slot:
            slots.mark_verified(slot)
        assert not any(slot.scope.cancel_called for slot in held)
        group.cancel_scope.cancel()


class SlowTable(CallWrapper):
    """Table whose calls take 8 ms each, the usual latency of DynamoDB."""

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await anyio.sleep(0.008)
        return await call()


@pytest.mark.slow
async def test_64_senders_at_once_store_150_webhooks_a_second_at_8_ms_per_call() -> None:
    simulated = SimulatorOptions(users=64)
    async with open_service(around=SlowTable, simulated=simulated, defaults=PollDefaults(backfill_days=0)) as service:
        accounts = {}
        for number in range(1, 65):
            await service.connect(f"u{number}", f"SandboxUser{number}")
            accounts[f"u{number}"] = await account(service, f"u{number}")
        statuses: list[int] = []

        async def push(user: str) -> None:
            for number in range(2):
                body = envelope(accounts[user], records(HOUR_AGO + number * timedelta(minutes=5), 1))
                statuses.append((await service.push(user, body, f"msg_{number}")).status_code)

        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for user in accounts:
                group.start_soon(push, user)
        seconds = anyio.current_time() - began
        assert statuses == [202] * 64 * 2
        assert len(statuses) / seconds >= 150


async def most_at_once(*sizes: int) -> int:
    """Return the largest number of webhooks of these sizes that are stored at once."""
    slots, running, most = WriteSlots(), 0, 0

    async def store(size: int) -> None:
        nonlocal running, most
        async with slots.wait(size):
            running += 1
            most = max(most, running)
            await anyio.sleep(1)
            running -= 1

    async with anyio.create_task_group() as group:
        for size in sizes:
            group.start_soon(store, size)
    assert running == 0
    return most


async def test_s9_the_bytes_of_webhooks_at_work_are_bounded() -> None:
    assert await most_at_once(*[MAX_WEBHOOK_BYTES] * 9) == MAX_WRITE_BYTES // MAX_WEBHOOK_BYTES == 4
    assert await most_at_once(*[500] * 64) == MAX_WRITE_BYTES // MIN_WRITE_BYTES == 32


async def test_s9_a_large_webhook_is_not_overtaken_by_small_ones() -> None:
    slots, order = WriteSlots(), []

    async def store(name: str, size: int) -> None:
        async with slots.wait(size):
            order.append(name)
            await anyio.sleep(10)

    async with anyio.create_task_group() as group:
        for name, size in [("first", 500), *[("large", MAX_WEBHOOK_BYTES)] * 4, ("small", 500)]:
            group.start_soon(store, name, size)
            await anyio.sleep(1)
    assert order == ["first", *["large"] * 4, "small"]


async def test_s9_a_cancelled_webhook_frees_its_room() -> None:
    slots, stored = WriteSlots(), 0

    async def store(seconds: float) -> None:
        nonlocal stored
        with anyio.move_on_after(1):
            async with slots.wait(MAX_WEBHOOK_BYTES):
                await anyio.sleep(seconds)
                stored += 1

    async with anyio.create_task_group() as group:
        for _ in range(9):  # four are cancelled at work, five while they wait
            group.start_soon(store, 10)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(store, 0.9)
    assert stored == 4
