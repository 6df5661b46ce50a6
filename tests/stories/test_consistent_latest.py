"""Latest readings under load: every answer contains each change that was confirmed before its request."""

from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any

import anyio

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.simulator import SimulatorOptions
from tests.conftest import on
from tests.fakes.faults import StaleReads
from tests.harness.service import START, ServiceHarness, open_service
from tests.harness.webhook_sender import envelope, record

anyio_backend = on("asyncio")

USERS = [f"user{number}" for number in range(200)]
ACTIVE = USERS[:8]
"""Users with webhooks. Half of the requests are for them, so that an answer that is too old is likely to show."""

READERS, PUSHES_EACH = 64, 8
FIRST = START - timedelta(hours=12)


class SlowTable(StaleReads):
    """Reads that are answered up to 20 ms late, with the data of their start. Counts the calls by name."""

    def __init__(self, inner: Any, random: Random) -> None:
        super().__init__(inner, random, pause=lambda part: anyio.sleep(part / 50))
        self.counts = Counter[str]()

    async def _around(self, name: str, call: Any) -> Any:
        self.counts[name] += 1
        return await super()._around(name, call)


async def test_while_webhooks_commit_every_answer_contains_each_change_confirmed_before_its_request() -> None:
    random = Random(16)
    tables: list[SlowTable] = []

    def around(table: Any) -> SlowTable:
        tables.append(SlowTable(table, random))
        return tables[0]

    simulated = SimulatorOptions(users=len(USERS))
    async with open_service(around=around, simulated=simulated, defaults=PollDefaults(backfill_days=0)) as service:
        await connect_all(service)
        confirmed = dict.fromkeys(USERS, -1)
        answers = 0

        async def send(user: str) -> None:
            for number in range(PUSHES_EACH):
                pushed = confirmed[user] + 1
                account = (await service.connection(user)).provider_account or ""
                body = envelope(account, [record(FIRST + pushed * timedelta(minutes=5), 100 + pushed)])
                answer = await service.push(user, body, f"{user}-{number}")
                assert answer.status_code == 202, answer.text
                confirmed[user] = pushed

        async def read(sending: anyio.CancelScope) -> None:
            nonlocal answers
            while not sending.cancel_called:
                user = random.choice(random.choice((ACTIVE, USERS)))
                expected = confirmed[user]
                answer = await service.api.get(f"/api/bg/{user}/latest")
                shown = answer.json()["glucose_mg_dl"] - 100 if answer.status_code == 200 else -1
                assert shown >= expected
                answers += 1
                await anyio.sleep(random.random() / 20)  # so that calls are sent before they are full

        ended = anyio.CancelScope()
        async with anyio.create_task_group() as reading:
            for _ in range(READERS):
                reading.start_soon(read, ended)
            async with anyio.create_task_group() as sending:
                for user in ACTIVE:
                    sending.start_soon(send, user)
            ended.cancel()
        assert answers > READERS
        assert sum(number + 1 for number in confirmed.values()) == len(ACTIVE) * PUSHES_EACH
        assert tables[0].counts["batch_get_once"] * 2 < answers, "the readers share their calls"


async def connect_all(service: ServiceHarness) -> None:
    for number, user in enumerate(USERS, start=1):
        await service.connect(user, f"SandboxUser{number}")
