import socket

import httpx
import pytest

from bg_ingest.errors import IngestError
from bg_ingest.observability.exposition import serve_metrics
from bg_ingest.observability.registry import MetricsRegistry

HOST = "127.0.0.1"


@pytest.fixture
def free_port() -> int:
    with socket.create_server((HOST, 0)) as reserved:
        port: int = reserved.getsockname()[1]
    return port


def test_metrics_are_served_on_their_port_while_the_body_runs(free_port: int) -> None:
    with serve_metrics(MetricsRegistry(), HOST, free_port):
        assert "bg_ingest_build_info" in httpx.get(f"http://{HOST}:{free_port}/metrics").text
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{HOST}:{free_port}/metrics")


def test_without_a_port_nothing_is_served() -> None:
    with serve_metrics(MetricsRegistry(), HOST, None):
        pass


def test_a_port_in_use_is_refused_with_the_setting_to_change() -> None:
    with (
        socket.create_server((HOST, 0)) as taken,
        pytest.raises(IngestError, match="choose another METRICS_PORT"),
        serve_metrics(MetricsRegistry(), HOST, taken.getsockname()[1]),
    ):
        pass
