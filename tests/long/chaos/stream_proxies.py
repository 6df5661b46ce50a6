"""Streams behind Debian's nginx and HAProxy: delay of each event, and no cut for minutes.

    python -m tests.long.chaos.stream_proxies [--minutes 5] [--nginx PATH] [--haproxy PATH]

nginx buffers by default, and HAProxy has ``timeout server 4s``. One stream is open through each. Exit code 1 if one of
them is cut, or an event is later than 200 ms.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median

import anyio
import httpx
import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.simulator.data import user_id
from tests.harness.web import NO_CERTIFICATES
from tests.harness.webhook_sender import SECRET
from tests.integration.processes import Server, free_port, start_server
from tests.long.benchmarks.stream_delay import Arrivals, follow, push
from tests.long.chaos.drains import ADA, OPTIONS, simulating
from tests.long.chaos.processes import HOST, Process, provider_settings, run_folder, service, wait_until
from tests.long.chaos.report import Report, console
from tests.long.chaos.users import connect, status

PAUSES_SECONDS = (1.0, 1.0, 13.0)
"""Seconds between webhooks by turns. The longest one exceeds the timeout of HAProxy, so that heartbeats are needed."""

MAX_DELAY_MS = 200.0

NGINX = """
daemon off; master_process off; pid nginx.pid; error_log error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{ listen {host}:{port}; location / {{ proxy_pass http://{host}:{service}; }} }}
}}
"""

HAPROXY = """
defaults
  mode http
  option http-no-delay
  timeout connect 4s
  timeout client 4s
  timeout server 4s
listen streams
  bind {host}:{port}
  server one {host}:{service}
"""


@contextmanager
def proxies(folder: Path, served: Process, nginx: str, haproxy: str) -> Iterator[dict[str, int]]:
    """Run both before the service; yield their ports."""
    ports, servers = {"nginx": free_port(), "HAProxy": free_port()}, []
    for (name, port), text in zip(ports.items(), (NGINX, HAPROXY), strict=True):
        place = folder / name
        place.mkdir()
        file = place / "configuration"
        file.write_text(text.format(host=HOST, port=port, service=served.port))
        command = [nginx, "-p", f"{place}", "-c", f"{file}"] if name == "nginx" else [haproxy, "-f", f"{file}"]
        servers.append(Server(command, {"LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")}, place, port))  # noqa: TID251 - of unpacked packages
    with start_server(*servers):
        yield ports


async def measure(served: Process, ports: dict[str, int], seconds: float) -> dict[str, Arrivals]:
    """Send webhooks directly, and follow the user through each proxy."""
    arrivals = {name: Arrivals() for name in ports}
    account = user_id(OPTIONS.seed, OPTIONS.client_id, ADA.login)
    at = SystemClock().now().replace(microsecond=0) - timedelta(days=30)
    async with (
        httpx.AsyncClient(verify=NO_CERTIFICATES, trust_env=False, timeout=30) as client,
        anyio.create_task_group() as group,
    ):
        for name, port in ports.items():
            await group.start(follow, port, ADA.user, arrivals[name])
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            for pause in PAUSES_SECONDS:
                at += timedelta(minutes=5)
                await push(client, served.url, ADA.user, account, at)
                for each in arrivals.values():
                    each.add_accepted(ADA.user, at)
                await anyio.sleep(pause)
        group.cancel_scope.cancel()
    return arrivals


def check(report: Report, name: str, arrivals: Arrivals) -> None:
    """Check one proxy. An event that a cut stream did not deliver is missing."""
    missing = len(arrivals.accepted.keys() - arrivals.streamed.keys())
    report.check(f"{name}: events not streamed", missing, holds=not missing, expected="0")
    delays = arrivals.delays(arrivals.streamed)
    latest = max(delays) * 1e3
    text = f"{len(delays)}; {median(delays) * 1e3:.1f}; {latest:.1f}"
    report.check(f"{name}: events; median, latest, ms", text, holds=latest <= MAX_DELAY_MS, expected="200 at most")


@click.command()
@click.option("--minutes", default=5.0, show_default=True)
@click.option("--nginx", default="/usr/sbin/nginx", show_default=True)
@click.option("--haproxy", default="/usr/sbin/haproxy", show_default=True)
def main(minutes: float, nginx: str, haproxy: str) -> None:
    """Measure streams behind two proxies."""
    report = Report("Streams behind proxies")
    for command in ([nginx, "-v"], [haproxy, "-v"]):
        output = subprocess.run(command, check=True, capture_output=True, text=True)
        report.figure(Path(command[0]).name, (output.stdout + output.stderr).splitlines()[0])
    with run_folder("proxies") as folder, simulating(folder) as simulated:
        settings = provider_settings(simulated, OPTIONS) | {"WEBHOOK_SIGNING_SECRETS": SECRET}
        with service(folder, **settings) as served, proxies(folder, served, nginx, haproxy) as ports:
            served.get_ready()
            connect(served, ADA)
            wait_until(lambda: status(served, ADA).get("backfill_done") == 1, 60, "the backfill")
            console.print(f"{minutes:g} minutes")
            for name, arrivals in anyio.run(measure, served, ports, minutes * 60).items():
                check(report, name, arrivals)
        report.show()


if __name__ == "__main__":
    main()
