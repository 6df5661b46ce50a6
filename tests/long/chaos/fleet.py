"""Several replicas of the service on the same store, each with its own name at the provider."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import anyio
import httpx

from bg_ingest.simulator import SimulatorOptions
from tests.harness.web import web
from tests.long.chaos.calls import FROM
from tests.long.chaos.gate import Gate, open_gate
from tests.long.chaos.processes import Process, answers, provider_settings, simulator, wait_until
from tests.long.chaos.store_dump import PROVIDER
from tests.long.chaos.users import SimulatedUser

NAMES = ("one", "two", "three")

SETTLE_SECONDS = 60.0
"""Seconds until all shards are shared: a TTL, a few rounds of ownership, and one machine for all processes."""

MAX_WAITING, CALM_SECONDS = 10, 10
"""Most callers of all replicas that wait for a call of the budget, and checks, a second apart, without more."""

CATCH_UP_SECONDS = 300.0
"""Seconds until overdue polls are made up for with the calls that the limit leaves."""

MAX_CONCURRENT_CONNECTS = 12
"""Users who connect at the same time."""

CONNECTION_LIMITS = httpx.Limits(keepalive_expiry=2.0)
"""Idle seconds of a client's connection. Our servers close at 5, maybe while a request is on its way."""


class Replica:
    """One ``bg-ingest run``, and the gate before its store if it has one."""

    def __init__(self, name: str, process: Process, gate: Gate | None = None) -> None:
        self.name = name
        self.process = process
        self.gate = gate

    @property
    def url(self) -> str:
        return self.process.url

    def report(self) -> dict[str, Any]:
        """Return the replica's report of itself; empty when it does not answer."""
        with suppress(httpx.HTTPError):
            answer = web.get(f"{self.url}/api/workers", timeout=10)
            if answer.is_success:
                found: dict[str, Any] = answer.json()
                return found
        return {}

    @property
    def is_ready(self) -> bool:
        return answers(self.process, "/health/ready")

    def restart(self) -> None:
        self.process.start()
        self.process.get_ready(60)


class Fleet:
    """The replicas, the provider, and the connected users."""

    def __init__(self, simulated: Process, replicas: Sequence[Replica], options: SimulatorOptions) -> None:
        self.simulated = simulated
        self.replicas = replicas
        self.options = options

    @property
    def running(self) -> list[Replica]:
        return [each for each in self.replicas if each.process.alive]

    def shares(self) -> list[int]:
        """Return the number of shards in the report of each running replica."""
        return [found["shards"]["owned"] if (found := each.report()) else -1 for each in self.running]

    def is_balanced(self) -> bool:
        """True if all shards are served, and no replica has two more than another."""
        reports = [each.report() for each in self.running]
        if not all(reports) or any(each["unready"] or each["shards"]["loading"] for each in reports):
            return False
        owned: list[int] = [each["shards"]["owned"] for each in reports]
        return sum(owned) == 256 and max(owned) - min(owned) <= 1

    def get_balanced(self) -> None:
        wait_until(self.is_balanced, SETTLE_SECONDS, "the shards to be shared", every=0.5)

    def get_calm(self) -> float:
        """Wait until hardly any caller waits for a call and overdue polls are made up for; return the seconds.

        A missing report counts as many waiting callers.
        """
        began = time.monotonic()
        polls: deque[int] = deque(maxlen=CALM_SECONDS)

        def is_calm() -> bool:
            polls.append(self.waiting())
            return len(polls) == CALM_SECONDS and max(polls) <= MAX_WAITING

        wait_until(is_calm, CATCH_UP_SECONDS, "overdue polls to be made up for", every=1)
        return round(time.monotonic() - began, 1)

    def waiting(self) -> int:
        """Return the callers of all replicas that wait for a call of the budget; too many if a report is missing."""
        reports = [each.report() for each in self.running]
        if not all(reports):
            return MAX_WAITING + 1
        return sum(each["waiting"] for found in reports for each in found["budgets"])

    def connect(self, people: Sequence[SimulatedUser]) -> list[str]:
        """Connect all users through the OAuth flow, many at once, on any replica; return failed users with reasons."""
        return anyio.run(_connect_all, [each.url for each in self.running], people)

    def polled(self) -> int:
        """Return the number of scheduled connections of all replicas."""
        return sum(each.report()["connections"]["polled"] for each in self.running)


async def _connect_all(urls: Sequence[str], people: Sequence[SimulatedUser]) -> list[str]:
    failed: list[str] = []
    left = list(enumerate(people))

    async def browse() -> None:
        async with httpx.AsyncClient(
            timeout=60, follow_redirects=True, trust_env=False, limits=CONNECTION_LIMITS
        ) as browser:
            while left:
                index, person = left.pop()
                try:
                    await _connect(browser, urls[index % len(urls)], person)
                except httpx.HTTPError as error:
                    failed.append(f"{person.user}: {error!r}")

    async with anyio.create_task_group() as group:
        for _ in range(min(MAX_CONCURRENT_CONNECTS, len(people))):
            group.start_soon(browse)
    return failed


async def _connect(browser: httpx.AsyncClient, url: str, person: SimulatedUser) -> None:
    begun = await browser.post(f"{url}/api/users/{person.user}/connections/{PROVIDER}")
    login = httpx.URL(begun.raise_for_status().json()["authorize_url"]).copy_merge_params({"user": person.login})
    (await browser.get(login)).raise_for_status()


class Service(Protocol):
    """Factory of a process of the service, from the port of its store and a name for its log."""

    def __call__(self, store_port: int, name: str, **settings: str) -> Process: ...


@contextmanager
def fleet(
    index: Path,
    service: Service,
    store_port: int,
    options: SimulatorOptions,
    settings: Mapping[str, str],
    *,
    gated: Sequence[str] = (),
    gates: Mapping[str, Gate] | None = None,
) -> Iterator[Fleet]:
    """Run three replicas and a simulator; those named in ``gated`` reach their store through a gate of their own."""
    simulated = simulator(index, options)
    pointing = provider_settings(simulated, options)
    with ExitStack() as opened:
        ways = dict(gates or {}) | {name: opened.enter_context(open_gate(store_port)) for name in gated}
        replicas = []
        for name in NAMES:
            gate = ways.get(name)
            own = {"DEXCOM_API_BASE_URL": f"{simulated.url}{FROM}{name}"}
            port = gate.port if gate else store_port
            process = service(port, f"replica-{name}", **(pointing | own | dict(settings)))
            replicas.append(Replica(name, process, gate))
        opened.enter_context(simulated)
        wait_until(lambda: answers(simulated, "/admin/state"), 30, "the simulator")
        for each in replicas:
            opened.enter_context(each.process)
        for each in replicas:
            each.process.get_ready(60)
        found = Fleet(simulated, replicas, options)
        found.get_balanced()
        yield found
