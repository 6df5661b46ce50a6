"""Processor time of a provider call over TLS: on a kept connection, as data calls, and on a new one, as token requests.

    python -m tests.long.benchmarks.provider_calls [--runs 9] [--calls 100]

The runs alternate between the two. Only the calling process counts; the server is a process of its own.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import rich_click as click

from bg_ingest.providers.data_client import open_data_client
from bg_ingest.providers.http import HttpAnswer
from bg_ingest.providers.http_client import http_client
from tests.harness.tls_server import TlsServer, write_certificate
from tests.long.chaos.report import Report

BODY = b"x" * 12_000
"""About the size of a page of 36 records."""

PARAMS = {"startDate": "2026-03-02T06:00:00", "endDate": "2026-03-02T09:00:00"}
HEADERS = {"authorization": f"Bearer {'x' * 800}"}


@click.command()
@click.option("--runs", default=9, show_default=True)
@click.option("--calls", default=100, show_default=True)
@click.option("--serve", type=click.Path(path_type=Path), hidden=True)
def main(runs: int, calls: int, serve: Path | None) -> None:
    """CPU per provider call on kept and on new connections."""
    if serve is not None:
        anyio.run(_serve, serve)
        return
    with TemporaryDirectory() as folder:
        certificate = Path(folder, "own.pem")
        write_certificate(certificate)
        os.environ["SSL_CERT_FILE"] = str(certificate)  # noqa: TID251 - httpx reads it
        command = [sys.executable, "-m", "tests.long.benchmarks.provider_calls", "--serve", str(certificate)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                kept, new = anyio.run(_measure, server.stdout.readline().strip(), runs, calls)
            finally:
                server.terminate()
    report = Report(f"Provider calls over TLS, medians of {runs} runs of {calls} calls")
    report.figure("kept connection (GET), ms", f"{kept:.2f}")
    report.figure("new connection (POST), ms", f"{new:.2f}")
    report.figure("ratio", f"{kept / new:.2f}")
    report.show()


async def _serve(certificate: Path) -> None:
    async with TlsServer(certificate, body=BODY).running() as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


async def _measure(url: str, runs: int, calls: int) -> tuple[float, float]:
    async with http_client() as http, open_data_client() as data:

        async def get(url: str) -> HttpAnswer:
            return await data.get(url, params=PARAMS, headers=HEADERS)

        async def post(url: str) -> HttpAnswer:
            return await http.post(url, content=b"refresh_token=one")

        figures = [(await _processor_ms(get, url, calls), await _processor_ms(post, url, calls)) for _ in range(runs)]
    return median(kept for kept, _ in figures), median(new for _, new in figures)


async def _processor_ms(call: Callable[[str], Coroutine[Any, Any, HttpAnswer]], url: str, calls: int) -> float:
    used = time.process_time()
    for _ in range(calls):
        assert (await call(url)).content == BODY
    return 1000 * (time.process_time() - used) / calls


if __name__ == "__main__":
    main()
