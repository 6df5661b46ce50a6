"""Traces by OpenTelemetry, an extra: nothing of it is loaded unless TRACES_ENDPOINT is set."""
# ruff: noqa: PLC0415 - see above

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bg_ingest.errors import IngestError
from bg_ingest.ports import Tracing, Untraced

UNTRACED = Untraced()


@asynccontextmanager
async def open_tracing(endpoint: str | None) -> AsyncIterator[Tracing]:
    """Send traces there, if there is somewhere to send them; IngestError without the extra."""
    if endpoint is None:
        yield UNTRACED
        return
    try:
        from bg_ingest.observability.tracing import export_traces
    except ImportError:
        raise IngestError("TRACES_ENDPOINT needs OpenTelemetry: pip install 'bg-ingest[otel]'.") from None
    with export_traces(endpoint) as traces:
        yield traces
