"""The separate port of the metrics: served during the body, with bounds on what clients hold open."""

import socket
import threading
import time
from contextlib import ExitStack

import httpx
import pytest

from bg_ingest.errors import IngestError
from bg_ingest.observability import metrics_port
from bg_ingest.observability.metrics_port import MAX_SCRAPES, serve_metrics
from bg_ingest.observability.registry import MetricsRegistry
from tests.harness.web import web

HOST = "127.0.0.1"
HALF_HEAD = b"GET /metrics HTTP/1.1\r\nX-"


@pytest.fixture
def free_port() -> int:
    with socket.create_server((HOST, 0)) as reserved:
        port: int = reserved.getsockname()[1]
    return port


@pytest.mark.slow
def test_metrics_are_served_on_their_port_while_the_body_runs(free_port: int) -> None:
    with serve_metrics(MetricsRegistry().registry, HOST, free_port):
        assert "bg_ingest_build_info" in web.get(f"http://{HOST}:{free_port}/metrics").text
    with pytest.raises(httpx.ConnectError):
        web.get(f"http://{HOST}:{free_port}/metrics")


def test_without_a_port_nothing_is_served() -> None:
    with serve_metrics(MetricsRegistry().registry, HOST, None):
        pass


def test_a_port_in_use_is_refused_with_the_setting_to_change() -> None:
    with (
        socket.create_server((HOST, 0)) as taken,
        pytest.raises(IngestError, match="choose another METRICS_PORT"),
        serve_metrics(MetricsRegistry().registry, HOST, taken.getsockname()[1]),
    ):
        pass


def test_s13_as_many_connections_as_permitted_stay_open(free_port: int) -> None:
    with serve_metrics(MetricsRegistry().registry, HOST, free_port), ExitStack() as opened:
        connections = [opened.enter_context(socket.create_connection((HOST, free_port), 5)) for _ in range(MAX_SCRAPES)]
        for connection in reversed(connections):  # the last one is accepted after all others
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.0 200"


@pytest.mark.slow
def test_s13_half_open_scrapes_are_bounded_and_keep_no_scrape_out(free_port: int) -> None:
    threads = threading.active_count()
    with serve_metrics(MetricsRegistry().registry, HOST, free_port):
        half_open = [socket.create_connection((HOST, free_port), 5) for _ in range(3 * MAX_SCRAPES)]
        try:
            for connection in half_open:
                connection.sendall(HALF_HEAD)
            assert "bg_ingest_build_info" in web.get(f"http://{HOST}:{free_port}/metrics").text
            assert threading.active_count() <= threads + MAX_SCRAPES + 2
        finally:
            for connection in half_open:
                connection.close()


@pytest.mark.slow
def test_s13_a_scrape_that_stops_halfway_is_ended(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_port, "SCRAPE_SECONDS", 0.1)
    with (
        serve_metrics(MetricsRegistry().registry, HOST, free_port),
        socket.create_connection((HOST, free_port), 5) as half_open,
    ):
        half_open.sendall(HALF_HEAD)
        started_at = time.monotonic()
        assert half_open.recv(100) == b""
        assert time.monotonic() - started_at < 2
