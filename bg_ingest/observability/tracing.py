"""One trace from a look at a provider to the confirmed event; loaded only where TRACES_ENDPOINT is set.

A change carries its trace in the memory of the process that committed it. Told by another process, or after a
restart, it begins a trace of its own. Spans name provider, shard and outcome, never a user.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from bg_ingest import __version__
from bg_ingest.domain.changes import Change
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.polling import PollReport, PollState
from bg_ingest.domain.windows import Window
from bg_ingest.ports import AccountData, Answers, ConnectStep, Page, Polls, Priority, Provider, Publisher, Wakeups

MAX_CARRIED_CONTEXTS = 1_000
"""Changes whose trace is kept until they are told."""


class Traces:
    """The port Tracing: begins spans, and remembers in which one a change was committed."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._committed: OrderedDict[str, Context] = OrderedDict()

    @contextmanager
    def span(self, name: str, parent: Context | None = None, **facts: str | int) -> Iterator[trace.Span]:
        """Time the body; of an error only its name is told, since texts may be longer than they should."""
        attributes = {f"bg.{fact}": value for fact, value in facts.items()}
        with self._tracer.start_as_current_span(
            name, parent, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_attribute("bg.outcome", type(error).__name__)
                span.set_status(trace.StatusCode.ERROR)
                raise

    def around_polls(self, polls: Polls) -> Polls:
        return TracedPolls(polls, self)

    def around_provider(self, provider: Provider) -> Provider:
        return TracedProvider(provider, self)

    def around_hints(self, wakeups: Wakeups) -> Wakeups:
        return TracedWakeups(wakeups, self)

    def around_publisher(self, publisher: Publisher) -> Publisher:
        return TracedPublisher(publisher, self)

    def remember_context(self, changes: Sequence[Change]) -> None:
        """Remember that these were committed in the span that is current."""
        context = trace.set_span_in_context(trace.get_current_span())
        for change in changes:
            self._committed[change.id] = context
        while len(self._committed) > MAX_CARRIED_CONTEXTS:
            self._committed.popitem(last=False)

    def pop_context(self, change: Change) -> Context | None:
        """Return the trace of a change that was committed here, once."""
        return self._committed.pop(change.id, None)


class TracedPolls:
    """The port Turns."""

    def __init__(self, polls: Polls, traces: Traces) -> None:
        self._polls = polls
        self._traces = traces

    async def poll(
        self, connection_id: ConnectionId, epoch: int, state: PollState, *, requested: bool = False
    ) -> PollReport:
        shard = shard_of(connection_id.user)
        with self._traces.span("poll", provider=connection_id.provider, shard=shard, epoch=epoch) as span:
            report = await self._polls.poll(connection_id, epoch, state, requested=requested)
            span.set_attribute("bg.outcome", report.result.outcome)
        return report


class TracedWakeups:
    """The port Hints."""

    def __init__(self, wakeups: Wakeups, traces: Traces) -> None:
        self._wakeups = wakeups
        self._traces = traces

    def wake_poller(self, connection: ConnectionId) -> None:
        self._wakeups.wake_poller(connection)

    def wake_relay(self, changes: Sequence[Change]) -> None:
        self._traces.remember_context(changes)
        self._wakeups.wake_relay(changes)


class TracedPublisher:
    """The port Publisher."""

    def __init__(self, publisher: Publisher, traces: Traces) -> None:
        self._publisher = publisher
        self._traces = traces

    async def publish(self, change: Change) -> bool:
        with self._traces.span(
            "publish", self._traces.pop_context(change), type=change.type, change=change.number
        ) as span:
            received = await self._publisher.publish(change)
            span.set_attribute("bg.outcome", "confirmed" if received else "unroutable")
        return received


class TracedProvider:
    """The port Provider."""

    def __init__(self, provider: Provider, traces: Traces) -> None:
        self.name = provider.name
        self.capabilities = provider.capabilities
        self.parse_credentials = provider.parse_credentials
        self.translate_record = provider.translate_record
        self._provider = provider
        self._traces = traces

    async def connect(self, region: str, answers: Answers) -> ConnectStep:
        if not answers.values:  # makes no call
            return await self._provider.connect(region, answers)
        with self._traces.span("exchange", provider=self.name, region=region):
            return await self._provider.connect(region, answers)

    async def renew(self, region: str, credentials: Credentials) -> Credentials:
        with self._traces.span("refresh", provider=self.name, region=region):
            return await self._provider.renew(region, credentials)

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> AccountData:
        with self._traces.span("available", provider=self.name, region=region):
            return await self._provider.available(region, credentials, priority)

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        with self._traces.span("readings", provider=self.name, region=region):
            return await self._provider.readings(region, credentials, window, priority)


@contextmanager
def export_traces(endpoint: str) -> Iterator[Traces]:
    """Send spans to an OTLP/HTTP address while the body runs, and the last of them after it."""
    provider = TracerProvider(resource=Resource.create({"service.name": "bg-ingest", "service.version": __version__}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=3)))
    try:
        yield Traces(provider.get_tracer("bg_ingest"))
    finally:
        provider.shutdown()
