"""Where traces go: OpenTelemetry's own exporter, in batches, on a thread of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from bg_ingest import __version__
from bg_ingest.tracing.traces import Traces


@contextmanager
def exporting(endpoint: str) -> Iterator[Traces]:
    """Send spans to an OTLP/HTTP address while the body runs, and the last of them after it."""
    provider = TracerProvider(resource=Resource.create({"service.name": "bg-ingest", "service.version": __version__}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=3)))
    try:
        yield Traces(provider.get_tracer("bg_ingest"))
    finally:
        provider.shutdown()
