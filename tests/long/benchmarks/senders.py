"""Prepared webhooks sent fast: each user's one after the other, all users at once."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import aiohttp
import anyio
import msgspec

from bg_ingest.adapters.clock import SystemClock
from tests.harness.webhook_sender import envelope, record, signed, to_bytes
from tests.long.chaos.processes import Process
from tests.long.chaos.users import SimulatedUser

CADENCE = timedelta(minutes=5)


class SignedRequest(msgspec.Struct, frozen=True):
    """A signed webhook."""

    path: str
    headers: dict[str, str]
    body: bytes


class RequestMaker:
    """Maker of webhooks with one reading each, the next of its user, in the format of a provider's push."""

    def __init__(self, accounts: Mapping[SimulatedUser, str], start: datetime) -> None:
        self._accounts = accounts
        self._next = start
        self._made = 0

    def make(self, of_each: int) -> list[list[SignedRequest]]:
        """Return ``count`` webhooks of each user."""
        times = [self._next + number * CADENCE for number in range(of_each)]
        self._next += of_each * CADENCE
        return [[self._one(person, at) for at in times] for person in self._accounts]

    def _one(self, person: SimulatedUser, at: datetime) -> SignedRequest:
        self._made += 1
        body = envelope(self._accounts[person], [record(at, 80 + self._made % 120)])
        headers = signed(body, f"made-{at.timestamp():.0f}-{self._made}", SystemClock().now())
        texts = {name: to_bytes(value).decode() for name, value in headers.items()}
        return SignedRequest(f"/api/bg/{person.user}/webhook", texts, body)


async def send(service: Process, made: Sequence[Sequence[SignedRequest]], *, pause: float = 0) -> list[float]:
    """Send all, each list in its order; return the seconds of each. Raise AssertionError at any status but 202."""
    taken: list[float] = []
    async with aiohttp.ClientSession(service.url) as client:

        async def send_those(some: Sequence[SignedRequest]) -> None:
            for each in some:
                began = time.monotonic()
                async with client.post(each.path, headers=each.headers, data=each.body) as answer:
                    assert answer.status == 202, await answer.text()
                    stored = msgspec.json.decode(await answer.read())["stored"]
                    assert stored == 1, stored
                taken.append(time.monotonic() - began)
                await anyio.sleep(pause)

        async with anyio.create_task_group() as group:
            for some in made:
                group.start_soon(send_those, some)
    return taken
