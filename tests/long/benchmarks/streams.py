"""One process with 1,000 idle streams: memory, processor, and the end of all of them at SIGTERM.

Run ``python -m tests.long.benchmarks.streams``. The process runs on SQLite; every stream has a user of its own, and
its only traffic is a heartbeat each 3 seconds. Exit code 1 beyond the limits.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import rich_click as click
from anyio.abc import TaskStatus

from tests.long.chaos.event_source import STREAM_ENDS, open_source
from tests.long.chaos.processes import ROOT, Process, memory, processor, run_folder, service, service_settings
from tests.long.chaos.report import Report, console
from tests.long.chaos.seed_history import write_heads

STREAMS_OF_A_KEY = 100
SETTLE_SECONDS = 5.0
"""Pause before each measurement, in which the work of the start or of the opening ends."""

MAX_MEMORY_MB, MAX_PROCESSOR, MAX_END_SECONDS, MIN_SPREAD_SECONDS, MAX_STOP_SECONDS = 45.0, 0.08, 1.0, 3.0, 20.0
"""Limits: MB of all streams, share of a core, seconds from SIGTERM to the last `end`, seconds over which the clients
reconnect, seconds from SIGTERM to the exit."""


class IdleStream:
    """Client that reads to the end of its stream."""

    def __init__(self, user: str, key: str) -> None:
        self.heartbeats = 0
        self.reason = ""
        self.ended_at = self.reconnects_at = 0.0
        self.is_complete = False
        self._user = user
        self._key = key

    async def run(self, port: int, *, task_status: TaskStatus[None]) -> None:
        """Read the stream; it has started with its first event, a snapshot."""
        async with open_source(port, f"/api/bg/{self._user}/changes", key=self._key) as source:
            if source.status != 200:
                raise RuntimeError(f"the stream of {self._user} was answered with {source.status}")
            with suppress(*STREAM_ENDS):
                async for event in source.events():
                    if event.name == "snapshot":
                        task_status.started()
                    elif event.name == "end":
                        self.reason, self.ended_at = event.data["reason"], time.monotonic()
                        self.reconnects_at = self.ended_at + source.retry_ms / 1e3
                    else:
                        self.heartbeats += event.name == ":"
            self.is_complete = source.is_complete


def create_keys(folder: Path, count: int) -> list[str]:
    """Create keys with the command, before the service has the store."""
    command = [sys.executable, "-m", "bg_ingest.cli", "keys", "create", "--name", "streams", "--scope", "readings:read"]
    environment = {"PYTHONPATH": str(ROOT), **service_settings(folder, 0)}
    environment.pop("PORT")
    return [
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout.strip()
        for _ in range(count)
    ]


async def measure(report: Report, served: Process, streams: Sequence[IdleStream], seconds: float) -> None:
    warm_up = streams[0]
    async with anyio.create_task_group() as group:
        await group.start(warm_up.run, served.port)
        group.cancel_scope.cancel()
    alone = await processor_share(served, seconds / 2)
    before = memory(served.worker)["VmRSS"]
    async with anyio.create_task_group() as group:
        for stream in streams:
            await group.start(stream.run, served.port)
        used = await processor_share(served, seconds)
        mb = round((memory(served.worker)["VmRSS"] - before) / 1e6, 1)
        report.figure("MB of the process before", round(before / 1e6, 1))
        report.check(f"MB of {len(streams):,} streams", mb, holds=mb <= MAX_MEMORY_MB, expected=f"{MAX_MEMORY_MB:g}")
        report.figure("of a core without streams", f"{alone:.1%}")
        report.check("of a core", f"{used:.1%}", holds=used <= MAX_PROCESSOR, expected=f"{MAX_PROCESSOR:.0%} at most")
        least = min(stream.heartbeats for stream in streams)
        report.check("heartbeats, least of a stream", least, holds=least >= seconds // 4, expected=f"{seconds // 4}")
        stopped_at = time.monotonic()
        os.kill(served.pid, signal.SIGTERM)
    check_end(report, streams, stopped_at)
    code = await anyio.to_thread.run_sync(served.ends, 60)
    took = time.monotonic() - stopped_at
    holds = code == 0 and took < MAX_STOP_SECONDS
    report.check("exit code; s from SIGTERM", f"{code}; {took:.2f}", holds=holds, expected="0 within the drain")


async def processor_share(served: Process, seconds: float) -> float:
    await anyio.sleep(SETTLE_SECONDS)
    began, before = time.monotonic(), processor(served.worker)
    await anyio.sleep(seconds)
    return (processor(served.worker) - before) / (time.monotonic() - began)


def check_end(report: Report, streams: Sequence[IdleStream], stopped_at: float) -> None:
    reasons = Counter(stream.reason for stream in streams)
    report.check("reasons", dict(reasons), holds=reasons.keys() == {"restarting"}, expected="restarting")
    cut = sum(not stream.is_complete for stream in streams)
    report.check("answers cut instead of ended", cut, holds=not cut, expected="0")
    last = max(stream.ended_at for stream in streams) - stopped_at
    report.check("s until the last end", round(last, 2), holds=last <= MAX_END_SECONDS, expected=f"{MAX_END_SECONDS:g}")
    reconnects = [stream.reconnects_at for stream in streams]
    spread = round(max(reconnects) - min(reconnects), 2)
    holds = spread >= MIN_SPREAD_SECONDS
    report.check("s over which the clients reconnect", spread, holds=holds, expected=f"{MIN_SPREAD_SECONDS:g} at least")


@click.command()
@click.option("--streams", default=1_000, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="Seconds of the measurement with streams.")
def main(streams: int, seconds: float) -> None:
    """Measure the cost of streams without events."""
    report = Report(f"{streams:,} idle streams")
    users = [f"person-{number:04}" for number in range(streams)]
    with run_folder("streams") as folder:
        write_heads(folder / "data", users)
        keys = create_keys(folder, 1 + (streams - 1) // STREAMS_OF_A_KEY)
        idle = [IdleStream(user, keys[number // STREAMS_OF_A_KEY]) for number, user in enumerate(users)]
        with service(folder, STREAMS=str(streams)) as served:
            served.get_ready()
            console.print("opening the streams")
            anyio.run(measure, report, served, idle, seconds)
        report.show()


if __name__ == "__main__":
    main()
