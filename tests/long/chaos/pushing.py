"""Sender of webhooks with at-least-once delivery: a webhook is sent again under the same id until a 202."""

import itertools
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import httpx
import msgspec

from bg_ingest.adapters.clock import SystemClock
from tests.harness.web import NO_CERTIFICATES
from tests.harness.webhook_sender import envelope, record, signed
from tests.long.chaos.checks import ServedReading
from tests.long.chaos.processes import Process, wait_until
from tests.long.chaos.users import SimulatedUser

READINGS_PER_WEBHOOK = 3
"""Readings in a webhook; their times are unique among all webhooks."""

PUSH_OFFSET = timedelta(days=400)
"""Age of pushed readings. No poll reads those times, so that both kinds are compared separately."""

GIVE_UP_SECONDS = 40.0
"""Timeout of an answer in seconds."""


class PushedWebhook(msgspec.Struct):
    """One webhook and its readings."""

    person: SimulatedUser
    id: str
    body: bytes
    readings: list[ServedReading]
    again_at: float = 0.0
    attempts: int = 0


class Sender:
    """Threads that each send a webhook about every ``every`` seconds, besides the repeated ones."""

    def __init__(self, service: Process, accounts: Mapping[SimulatedUser, str], *, seed: int, every: float) -> None:
        self.since = SystemClock().now().replace(microsecond=0) - PUSH_OFFSET
        self.accepted: list[PushedWebhook] = []
        self.answers: Counter[str] = Counter()
        self.odd: list[str] = []
        self.slowest = 0.0
        self._service = service
        self._accounts = accounts
        self._chance = random.Random(seed)
        self._every = every
        self._numbers = itertools.count()
        self._again: deque[PushedWebhook] = deque()
        self._under_way = 0
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, users: Callable[[], Sequence[SimulatedUser]], threads: int = 3) -> None:
        """Push to the users that ``users`` returns at the time."""
        self._threads = [threading.Thread(target=self._push, args=(users,), daemon=True) for _ in range(threads)]
        for each in self._threads:
            each.start()

    def finish(self, within: float) -> int:
        """Send no new webhooks, wait for a 202 to each pending one; return the number of webhooks without one."""
        self._stopped.set()
        try:
            wait_until(lambda: not self._again and not self._under_way, within, "the last webhooks")
        finally:
            left = len(self._again) + self._under_way
            self._again.clear()  # threads with a pending webhook stop repeating it
            for each in self._threads:
                each.join(1)
        return left

    @property
    def readings(self) -> dict[SimulatedUser, list[ServedReading]]:
        found: dict[SimulatedUser, list[ServedReading]] = {person: [] for person in self._accounts}
        for each in self.accepted:
            found[each.person] += each.readings
        return found

    def _push(self, users: Callable[[], Sequence[SimulatedUser]]) -> None:
        with httpx.Client(timeout=GIVE_UP_SECONDS, verify=NO_CERTIFICATES, trust_env=False) as client:
            while not self._stopped.is_set() or self._again:
                one = self._next(users)
                if one is not None:
                    self._send(client, one)
                time.sleep(0.05 if self._stopped.is_set() else self._every)

    def _next(self, users: Callable[[], Sequence[SimulatedUser]]) -> PushedWebhook | None:
        with self._lock:
            self._under_way += 1
            if self._again and self._again[0].again_at <= time.monotonic():
                return self._again.popleft()
            known = users()
            if known and not self._stopped.is_set():
                return self._new(self._chance.choice(known))
            self._under_way -= 1
            return None

    def _new(self, person: SimulatedUser) -> PushedWebhook:
        number = next(self._numbers)
        start = self.since + number * READINGS_PER_WEBHOOK * timedelta(minutes=5)
        times = [start + index * timedelta(minutes=5) for index in range(READINGS_PER_WEBHOOK)]
        values = [self._chance.randint(60, 300) for _ in times]
        readings = [ServedReading(at, value, "ok", "flat", 0.1, 0) for at, value in zip(times, values, strict=True)]
        records = [record(at, value) for at, value in zip(times, values, strict=True)]
        return PushedWebhook(person, f"pushed-{number}", envelope(self._accounts[person], records), readings)

    def _send(self, client: httpx.Client, one: PushedWebhook) -> None:
        one.attempts += 1
        began, wait, code = time.monotonic(), 0.5, "none"
        try:
            answer = client.post(
                f"{self._service.url}/api/bg/{one.person.user}/webhook",
                content=one.body,
                headers=signed_headers(one, SystemClock().now()),
            )
        except httpx.TransportError:
            pass
        else:
            code = str(answer.status_code)
            if code == "503" and "retry-after" in answer.headers:
                wait = float(answer.headers["retry-after"])
            elif code != "202":
                self.odd.append(f"{code} {answer.text[:200]}")
        with self._lock:
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.answers[code] += 1
            self._under_way -= 1
            if code == "202":
                self.accepted.append(one)
            else:
                one.again_at = time.monotonic() + min(wait, 5.0)
                self._again.append(one)


def signed_headers(one: PushedWebhook, at: datetime) -> list[tuple[bytes, bytes]]:
    headers = signed(one.body, one.id, at)
    return [(name.encode(), value.encode() if isinstance(value, str) else value) for name, value in headers.items()]
