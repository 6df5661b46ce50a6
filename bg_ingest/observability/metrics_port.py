"""HTTP server for `METRICS_PORT`: the metrics of the process on a port that can be closed to API clients."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler

from bg_ingest.addresses import AddressUnusable, listen_at
from bg_ingest.errors import IngestError

MAX_SCRAPES = 16
"""Concurrent connections. A further one ends the oldest, so that half-open ones do not keep out a scrape."""
SCRAPE_SECONDS = 10.0
"""Longest duration of a connection."""


@contextmanager
def serve_metrics(registry: CollectorRegistry, host: str, port: int | None) -> Iterator[None]:
    """Serve the metrics on a separate port, if one is given, during the body.

    Raises IngestError with the reason if the port cannot be used.
    """
    if port is None:
        yield
        return
    try:
        listener = listen_at(host, port, backlog=128)
    except AddressUnusable as error:
        raise IngestError(f"Cannot listen on {error}: choose another METRICS_PORT.") from None
    server = ScrapeServer(listener, registry)
    threading.Thread(target=server.serve_forever, name="metrics port", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class ScrapeServer(ThreadingHTTPServer):
    """Server with a thread per connection, and bounds on the number and duration of connections."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, registry: CollectorRegistry) -> None:
        super().__init__(listener.getsockname()[:2], MetricsHandler.factory(registry), bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._started_at: dict[Any, float] = {}
        """Start of each open connection, the oldest first."""

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - of the base class
        connections = list(self._started_at)
        for connection in connections[: max(0, len(connections) - MAX_SCRAPES + 1)]:
            self._end(connection)
        self._started_at[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """End overdue connections; called twice a second."""
        now = time.monotonic()
        for connection, started_at in list(self._started_at.items()):
            if now - started_at >= SCRAPE_SECONDS:
                self._end(connection)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - of the base class
        self._started_at.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - of the base class
        """Ignore errors of a connection, which is closed anyway; the base class prints a traceback."""

    def _end(self, connection: socket.socket) -> None:
        self._started_at.pop(connection, None)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
