"""Delay of events beside 200 streams whose readers stop during a backfill, half of them for longer than the limit.

Run ``python -m tests.long.benchmarks.stalled_streams``. One process on SQLite. Webhooks go to five users with a stream
each, in three rounds with a backfill of another user. In the last round, 200 readers of this user stop as the backfill
begins. A stream is still open after 15 s. After 25 s it is cut, and its reader resumes with ``Last-Event-ID``. Exit
code 1 beyond limits.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from datetime import timedelta
from math import inf
from multiprocessing import get_context
from statistics import median

import anyio
import httpx
import msgspec
import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.data import user_id
from tests.harness.scrape import Scrape
from tests.harness.web import NO_CERTIFICATES, web
from tests.harness.webhook_sender import SECRET
from tests.long.benchmarks.stream_delay import Arrivals, follow, percentile, push
from tests.long.benchmarks.streams import STREAMS_OF_A_KEY, create_keys
from tests.long.chaos.event_source import STREAM_ENDS, EventSource, open_source
from tests.long.chaos.memory import MemoryWatch
from tests.long.chaos.processes import Process, answers, provider_settings, run_folder, service, simulator, wait_until
from tests.long.chaos.report import Report
from tests.long.chaos.seed_history import write_heads
from tests.long.chaos.users import SimulatedUser, connect, make_users, status

STREAMS, KEY = 200, "bgi_benchmark_" + "k" * 43
OPTIONS = SimulatorOptions(users=8, days_back=30)
*OTHERS, QUIET, QUIET_AGAIN, STALLED = make_users(8)
STALLED_PATH = f"/api/bg/{STALLED.user}/changes"
SETTINGS = {
    "API_BOOTSTRAP_KEY": KEY,
    "BACKFILL_DAYS": "30",
    "POLL_INTERVAL_SECONDS": "3600",
    "REQUESTS_PER_SECOND": "10000",
    "WEBHOOK_SIGNING_SECRETS": SECRET,
}
OPEN_SECONDS, ROUND_SECONDS, PUSH_PAUSE_SECONDS = 12.0, 30.0, 0.05
SHORT_STOP_SECONDS, LONG_STOP_SECONDS = 15.0, 25.0
"""Pauses of the readers: shorter and longer than the limit of 20 s."""

MAX_MORE_MS, MAX_MB = 10.0, 1.0
"""Limits: 99 % beside stalled streams, beyond that of the slower round without them; MB of memory for each of them."""


class Received(msgspec.Struct):
    """Change numbers that a reader received, its streams, and its requests without one."""

    numbers: list[int]
    streams: int = 0
    refusals: int = 0


class StalledReader:
    """Client that reads the first event, nothing until ``resume_at``, then all up to the change ``last``."""

    def __init__(self, port: int, key: str, resume_at: float) -> None:
        self.received = Received([])
        self.last: float = inf
        self._port = port
        self._key = key
        self._resume_at = resume_at

    async def run(self) -> None:
        """Read, and resume after each cut and the time that the service then requests."""
        reconnect_seconds = 1.0
        while not self._is_done:
            last_event_id = str(self.received.numbers[-1]) if self.received.numbers else ""
            with suppress(*STREAM_ENDS):
                async with open_source(
                    self._port, STALLED_PATH, key=self._key, last_event_id=last_event_id, small_buffers=True
                ) as source:
                    await self._read(source)
                    reconnect_seconds = source.retry_ms / 1_000
            if not self._is_done:
                await anyio.sleep(reconnect_seconds)

    @property
    def _is_done(self) -> bool:
        return bool(self.received.numbers) and self.received.numbers[-1] >= self.last

    async def _read(self, source: EventSource) -> None:
        if source.status != 200:
            self.received.refusals += 1
            return
        self.received.streams += 1
        async for event in source.events():
            if event.id:
                self.received.numbers.append(int(event.id))
            if event.name == "snapshot":
                await anyio.sleep_until(self._resume_at)
            if self._is_done:
                return


async def read_stalled(port: int, keys: Sequence[str], stop_at: float) -> tuple[int, list[Received]]:
    """Run readers that stop until ``stop_at`` and the pauses in turn. Return the last change, and the results."""
    pauses = (SHORT_STOP_SECONDS, LONG_STOP_SECONDS)
    readers = [StalledReader(port, key, stop_at + pauses[number % 2]) for number, key in enumerate(keys)]
    async with anyio.create_task_group() as group:
        for reader in readers:
            group.start_soon(reader.run)
        await anyio.sleep_until(stop_at + min(pauses))
        async with open_source(port, STALLED_PATH, key=KEY) as newest:
            last = int((await anext(newest.events())).data["change"])
        for reader in readers:
            reader.last = last
    return last, [reader.received for reader in readers]


async def measure(served: Process, person: SimulatedUser, days_ago: int) -> Arrivals:
    """Connect a user, which begins a backfill, and send webhooks to the others for the time of a round."""
    arrivals = Arrivals()
    at = SystemClock().now().replace(microsecond=0) - timedelta(days=days_ago)
    async with (
        httpx.AsyncClient(verify=NO_CERTIFICATES, trust_env=False, timeout=30) as client,
        anyio.create_task_group() as group,
    ):
        for followed in (*OTHERS, person):
            await group.start(follow, served.port, followed.user, arrivals, KEY)
        group.start_soon(anyio.to_thread.run_sync, connect, served, person, NO_CERTIFICATES, KEY)
        began = time.monotonic()
        for number in range(int(ROUND_SECONDS / PUSH_PAUSE_SECONDS)):
            await anyio.sleep(max(0.0, began + number * PUSH_PAUSE_SECONDS - time.monotonic()))
            other, at = OTHERS[number % len(OTHERS)], at + timedelta(minutes=5)
            await push(client, served.url, other.user, user_id(OPTIONS.seed, OPTIONS.client_id, other.login), at)
            arrivals.add_accepted(other.user, at)
        await arrivals.wait(10)
        group.cancel_scope.cancel()
    return arrivals


def measure_beside_stalled(report: Report, served: Process, keys: Sequence[str]) -> Arrivals:
    """Measure beside the streams that stop, and check their lists, which begin with the number before the backfill."""
    stop_at = time.monotonic() + OPEN_SECONDS
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as readers:
        reading = readers.submit(anyio.run, read_stalled, served.port, keys, stop_at)
        wait_until(lambda: metric(served, "streams") >= STREAMS, OPEN_SECONDS, "all streams to open")
        time.sleep(max(0.0, stop_at - time.monotonic()))
        watched = MemoryWatch(served.worker)
        arrivals = anyio.run(measure, served, STALLED, 380)
        last, results = reading.result(60)
    done = status(served, STALLED)["backfill_done"]
    report.check("backfill done", done, holds=done == 1, expected="1")
    mb = round(watched.growth / 1e6 / STREAMS, 3)
    report.check("MB for each stalled stream", mb, holds=mb <= MAX_MB, expected=f"{MAX_MB:g} at most")
    size = len(web.get(f"{served.url}{STALLED_PATH}?after=1&limit={last}").content) / 1e6
    report.figure("MB of the events of each stream", round(size, 2))
    rereads = metric(served, "stream_rereads_total")
    report.check("reads of the store for slower streams", rereads, holds=rereads > 0, expected="some")
    check_readers(report, SHORT_STOP_SECONDS, last, results[::2], streams=1)
    check_readers(report, LONG_STOP_SECONDS, last, results[1::2], streams=2)
    return arrivals


def check_readers(report: Report, seconds: float, last: int, results: Sequence[Received], *, streams: int) -> None:
    name, count = f"stopped for {seconds:g} s", len(results)
    other = sum(received.streams != streams for received in results)
    report.check(f"{name}: not {streams - 1} cuts", f"{other} of {count}", holds=not other, expected="0")
    wrong = sum(received.numbers != list(range(1, last + 1)) for received in results)
    report.check(f"{name}: lists that are not 1 to {last}", f"{wrong} of {count}", holds=not wrong, expected="0")
    report.figure(f"{name}: requests refused", sum(received.refusals for received in results))


def metric(served: Process, name: str) -> float:
    return Scrape(web.get(f"{served.url}/metrics").text)(name)


def check_delays(report: Report, rounds: Sequence[Arrivals]) -> None:
    slow = []
    for name, arrivals in zip(("alone", "alone again", "beside stalled streams"), rounds, strict=True):
        delays = arrivals.delays(arrivals.streamed)
        slow.append(percentile(delays))
        report.figure(f"{name}, ms: median; 99 %", f"{median(delays) * 1e3:.1f}; {slow[-1]:.1f}")
        missing = len(arrivals.accepted) - len(delays)
        report.check(
            f"{name}: events; missing", f"{len(delays)}; {missing}", holds=not missing, expected="none missing"
        )
    more = round(slow[2] - max(slow[:2]), 1)
    report.check("99 %: ms beyond the slower one", more, holds=more <= MAX_MORE_MS, expected=f"{MAX_MORE_MS:g} at most")


@click.command()
def main() -> None:
    """Measure the delay of events beside streams whose readers stop."""
    report = Report(f"{STREAMS} stalled streams")
    with run_folder("stalled-streams") as folder, simulator(folder, OPTIONS) as simulated:
        wait_until(lambda: answers(simulated, "/admin/state"), 30, "the simulator")
        write_heads(folder / "data", [person.user for person in (QUIET, QUIET_AGAIN, STALLED)])
        keys = create_keys(folder, STREAMS // STREAMS_OF_A_KEY) * STREAMS_OF_A_KEY
        with service(folder, **SETTINGS, **provider_settings(simulated, OPTIONS)) as served:
            served.get_ready()
            web.headers["Authorization"] = f"Bearer {KEY}"
            for person in OTHERS:
                connect(served, person, key=KEY)
            wait_until(lambda: all(status(served, each).get("backfill_done") == 1 for each in OTHERS), 60, "backfills")
            rounds = [anyio.run(measure, served, QUIET, 400), anyio.run(measure, served, QUIET_AGAIN, 390)]
            check_delays(report, [*rounds, measure_beside_stalled(report, served, keys)])
        report.show()


if __name__ == "__main__":
    main()
