"""The metrics on a port of their own, for who keeps the API's port to itself."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from bg_ingest.errors import IngestError
from bg_ingest.observability.registry import MetricsRegistry


@contextmanager
def serve_metrics(metrics: MetricsRegistry, host: str, port: int | None) -> Iterator[None]:
    """Serve them while the body runs, if there is a port; else IngestError says in one sentence why not."""
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
