"""Slow bodies of senders without proof do not block signed webhooks."""

from collections.abc import AsyncIterator

import anyio
import httpx
import pytest

from bg_ingest.api.problems import ProblemError
from bg_ingest.api.webhook_slots import (
    MAX_UNVERIFIED_BYTES,
    MAX_VERIFIED,
    MAX_WEBHOOK_BYTES,
    MIN_SLOT_BYTES,
    WebhookSlot,
    WebhookSlots,
)
from bg_ingest.domain.connections import PollDefaults
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
                    slots.verify(slot)
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
                slots.verify(slot)
        group.cancel_scope.cancel()


async def test_s9_verified_webhooks_are_bounded_and_never_ended() -> None:
    slots = WebhookSlots()
    held: list[WebhookSlot] = []
    async with anyio.create_task_group() as group:

        async def hold() -> None:
            with slots.reserve(1_000) as slot:
                slots.verify(slot)
                held.append(slot)
                await anyio.sleep_forever()

        for _ in range(MAX_VERIFIED):
            group.start_soon(hold)
        await anyio.sleep(1)
        with pytest.raises(ProblemError, match="Too many webhooks"), slots.reserve(1_000) as slot:
            slots.verify(slot)
        assert not any(slot.scope.cancel_called for slot in held)
        group.cancel_scope.cancel()
