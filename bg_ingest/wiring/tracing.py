"""Traces by OpenTelemetry, an optional dependency. Nothing of it is imported unless TRACES_ENDPOINT is set."""
# ruff: noqa: PLC0415 - see above

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bg_ingest.errors import IngestError
from bg_ingest.ports import Observer


@asynccontextmanager
async def open_tracing(endpoint: str | None) -> AsyncIterator[Sequence[Observer]]:
    """Yield the observer that sends traces to an endpoint, none without one; IngestError without OpenTelemetry."""
    if endpoint is None:
        yield ()
        return
    try:
        from bg_ingest.observability.tracing import export_traces
    except ImportError:
        raise IngestError("TRACES_ENDPOINT needs OpenTelemetry: pip install 'bg-ingest[otel]'.") from None
    with export_traces(endpoint) as traces:
        yield (traces,)
