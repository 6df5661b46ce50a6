"""Metrics on a port of their own, which can be closed to clients of the API."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from bg_ingest.errors import IngestError
from bg_ingest.observability.registry import MetricsRegistry


@contextmanager
def serve_metrics(metrics: MetricsRegistry, host: str, port: int | None) -> Iterator[None]:
    """Serve the metrics while the body runs, if a port is given. IngestError states why the port cannot be used."""
    if port is None:
        yield
        return
    try:
        server, _ = start_http_server(port, host, metrics.registry)
    except OSError as error:
        reason = f"Cannot listen on {host}:{port} ({error.strerror}): choose another METRICS_PORT."
        raise IngestError(reason) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
