"""Traces from a poll to the confirmed event, by OpenTelemetry. Imported only if TRACES_ENDPOINT is set.

The trace of a change is kept in the memory of the process that committed it. A change that another process publishes,
or this one after a restart, begins a new trace. Spans name provider, shard and outcome, never a user.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Self, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from bg_ingest import __version__
from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.polling import PollReport
from bg_ingest.errors import IngestError
from bg_ingest.ports import Observation, Observer

MAX_CARRIED_CONTEXTS = 1_000
"""Largest number of unpublished changes with a stored trace."""

Result = TypeVar("Result")


class Traces(Observer):
    """Begins a span for each poll, provider call and delivery. A delivery continues the trace of the commit."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._committed: OrderedDict[str, Context] = OrderedDict()

    def poll(self, connection: ConnectionId, epoch: int) -> Observation[PollReport]:
        span = self._span("poll", provider=connection.provider, shard=shard_of(connection.user), epoch=epoch)
        return SpanObservation(span, lambda report: report.result.outcome)

    def provider_call(self, provider: str, region: str, call: str) -> Observation[None]:
        return SpanObservation(self._span(call, provider=provider, region=region))

    def publish(self, change: Change) -> Observation[bool]:
        parent = self._committed.pop(change.id, None)
        span = self._span("publish", parent, type=change.type, change=change.number)
        return SpanObservation(span, lambda confirmed: "confirmed" if confirmed else "unroutable")

    def committed(self, changes: Sequence[Change]) -> None:
        context = trace.set_span_in_context(trace.get_current_span())
        for change in changes:
            self._committed[change.id] = context
        while len(self._committed) > MAX_CARRIED_CONTEXTS:
            self._committed.popitem(last=False)

    def _span(self, name: str, parent: Context | None = None, **facts: str | int) -> AbstractContextManager[trace.Span]:
        attributes = {f"bg.{fact}": value for fact, value in facts.items()}
        return self._tracer.start_as_current_span(
            name, parent, attributes=attributes, record_exception=False, set_status_on_exception=False
        )


class SpanObservation(Observation[Result]):
    """Span around one operation. Of an error, only the class name is recorded, because texts may quote a secret."""

    __slots__ = ("_context", "_outcome", "_span")

    def __init__(
        self, context: AbstractContextManager[trace.Span], outcome: Callable[[Result], str] | None = None
    ) -> None:
        super().__init__()
        self._context = context
        self._outcome = outcome

    def __enter__(self) -> Self:
        self._span = self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self._span.set_attribute("bg.outcome", type(error).__name__)
            self._span.set_status(trace.StatusCode.ERROR)
        elif self._outcome and self.result is not None:
            self._span.set_attribute("bg.outcome", self._outcome(self.result))
        self._context.__exit__(kind, error, traceback)


@contextmanager
def export_traces(endpoint: str) -> Iterator[Traces]:
    """Send spans to an OTLP/HTTP address while the body runs, and flush the remaining ones at its end.

    Raises IngestError if OpenTelemetry refuses the value of a variable OTEL_…, which it reads itself.
    """
    attributes = {"service.name": "bg-ingest", "service.version": __version__}
    try:
        provider = TracerProvider(resource=Resource.create(attributes))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=3)))
    except Exception as error:  # noqa: BLE001 - OpenTelemetry has no class of its own for wrong values
        advice = "correct the variables OTEL_…, or unset TRACES_ENDPOINT"
        raise IngestError(f"OpenTelemetry cannot be configured ({type(error).__name__}): {advice}.") from None
    try:
        yield Traces(provider.get_tracer("bg_ingest"))
    finally:
        provider.shutdown()
