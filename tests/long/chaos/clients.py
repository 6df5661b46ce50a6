"""Clients behind a load balancer without health checks. Each calls any replica, and another one after a failure."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial

import httpx

from bg_ingest.adapters.clock import SystemClock
from tests.harness.web import NO_CERTIFICATES
from tests.long.chaos.processes import Process
from tests.long.chaos.pushing import PushedWebhook, Sender, signed_headers
from tests.long.chaos.users import SimulatedUser

READ_LENGTH = timedelta(hours=6)
"""Age of the start of the requested windows."""


class Attempts:
    """Outcomes by kind of request: answered by the first try, by the second try, or by neither."""

    def __init__(self, replicas: Sequence[Process]) -> None:
        self.at_once: Counter[str] = Counter()
        self.healed: Counter[str] = Counter()
        self.failed: list[str] = []
        self._replicas = replicas
        self._lock = threading.Lock()

    def attempt(self, request_kind: str, expected: int, ask: Callable[[str], httpx.Response]) -> bool:
        """Call one replica and, after a failure, another; return True if one answered with an expected status."""
        failures = []
        for replica in random.sample(self._replicas, 2):
            try:
                answer = ask(replica.url)
            except httpx.TransportError as error:
                failures.append(type(error).__name__)
                continue
            if answer.status_code == expected:
                self._count(self.healed if failures else self.at_once, f"{request_kind} {' '.join(failures)}".strip())
                return True
            failures.append(str(answer.status_code))
        with self._lock:
            self.failed.append(f"{request_kind}: {', '.join(failures)}")
        return False

    def _count(self, among: Counter[str], request_kind: str) -> None:
        with self._lock:
            among[request_kind] += 1


class Clients(Sender):
    """Senders of webhooks and readers of latest and of a window, all with one retry."""

    def __init__(
        self, replicas: Sequence[Process], accounts: Mapping[SimulatedUser, str], *, seed: int, every: float
    ) -> None:
        super().__init__(replicas[0], accounts, seed=seed, every=every)
        self.attempts = Attempts(replicas)

    def start(self, users: Callable[[], Sequence[SimulatedUser]], threads: int = 3) -> None:
        super().start(users, threads)
        readers = [threading.Thread(target=self._read, args=(users,), daemon=True) for _ in range(threads)]
        for each in readers:
            each.start()
        self._threads += readers

    def _read(self, users: Callable[[], Sequence[SimulatedUser]]) -> None:
        start = (SystemClock().now() - READ_LENGTH).strftime("%Y-%m-%dT%H:%M:%SZ")
        with httpx.Client(timeout=30, verify=NO_CERTIFICATES, trust_env=False) as client:
            while not self._stopped.wait(self._every):
                user = random.choice(users()).user
                for request_kind, path in (
                    ("latest", f"/api/bg/{user}/latest"),
                    ("window", f"/api/bg/{user}?from={start}"),
                ):
                    self.attempts.attempt(request_kind, 200, partial(_get, client, path))

    def _send(self, client: httpx.Client, one: PushedWebhook) -> None:
        one.attempts += 1
        began = time.monotonic()

        def post(url: str) -> httpx.Response:
            headers = signed_headers(one, SystemClock().now())
            return client.post(f"{url}/api/bg/{one.person.user}/webhook", content=one.body, headers=headers)

        taken = self.attempts.attempt("webhook", 202, post)
        with self._lock:
            self.slowest = max(self.slowest, time.monotonic() - began)
            self._under_way -= 1
            if taken:
                self.accepted.append(one)
            else:
                one.again_at = time.monotonic() + 0.5
                self._again.append(one)


def _get(client: httpx.Client, path: str, url: str) -> httpx.Response:
    return client.get(url + path)
