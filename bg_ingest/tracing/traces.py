"""One trace from a look at a provider to the confirmed event; loaded only where TRACES_ENDPOINT is set.

A change carries its trace in the memory of the process that committed it. Told by another process, or after a
restart, it begins a trace of its own. Spans name provider, shard and outcome, never a user.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context

from bg_ingest.domain.events import Change
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.domain.windows import Window
from bg_ingest.ports import Available, Hints, Page, Priority, Provider, Publisher, Turns

MOST_CARRIED = 1_000
"""Changes whose trace is kept until they are told."""


class Traces:
    """The port Tracing: begins spans, and remembers in which one a change was committed."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._committed: OrderedDict[str, Context] = OrderedDict()

    @contextmanager
    def span(self, name: str, within: Context | None = None, **facts: str | int) -> Iterator[trace.Span]:
        """Time the body; of an error only its name is told, since texts may be longer than they should."""
        attributes = {f"bg.{fact}": value for fact, value in facts.items()}
        with self._tracer.start_as_current_span(
            name, within, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_attribute("bg.outcome", type(error).__name__)
                span.set_status(trace.StatusCode.ERROR)
                raise

    def around_turns(self, turns: Turns) -> Turns:
        return TracedTurns(turns, self)

    def around_provider(self, provider: Provider) -> Provider:
        return TracedProvider(provider, self)

    def around_hints(self, hints: Hints) -> Hints:
        return TracedHints(hints, self)

    def around_publisher(self, publisher: Publisher) -> Publisher:
        return TracedPublisher(publisher, self)

    def commit(self, changes: Sequence[Change]) -> None:
        """Remember that these were committed in the span that is current."""
        here = trace.set_span_in_context(trace.get_current_span())
        for change in changes:
            self._committed[change.id] = here
        while len(self._committed) > MOST_CARRIED:
            self._committed.popitem(last=False)

    def of(self, change: Change) -> Context | None:
        """Return the trace of a change that was committed here, once."""
        return self._committed.pop(change.id, None)


class TracedTurns:
    """The port Turns."""

    def __init__(self, turns: Turns, traces: Traces) -> None:
        self._turns = turns
        self._traces = traces

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn:
        shard = shard_of(connection_id.user)
        with self._traces.span("turn", provider=connection_id.provider, shard=shard, epoch=epoch) as span:
            turn = await self._turns.turn(connection_id, epoch, plan, asked=asked)
            span.set_attribute("bg.outcome", turn.outcome.ending)
        return turn


class TracedHints:
    """The port Hints."""

    def __init__(self, hints: Hints, traces: Traces) -> None:
        self._hints = hints
        self._traces = traces

    def look(self, connection: ConnectionId) -> None:
        self._hints.look(connection)

    def told(self, changes: Sequence[Change]) -> None:
        self._traces.commit(changes)
        self._hints.told(changes)


class TracedPublisher:
    """The port Publisher."""

    def __init__(self, publisher: Publisher, traces: Traces) -> None:
        self._publisher = publisher
        self._traces = traces

    async def publish(self, change: Change) -> bool:
        with self._traces.span("publish", self._traces.of(change), type=change.type, change=change.number) as span:
            received = await self._publisher.publish(change)
            span.set_attribute("bg.outcome", "confirmed" if received else "unroutable")
        return received


class TracedProvider:
    """The port Provider."""

    def __init__(self, provider: Provider, traces: Traces) -> None:
        self.name = provider.name
        self.capabilities = provider.capabilities
        self.authorize_url = provider.authorize_url
        self.pushed = provider.pushed
        self.retranslate = provider.retranslate
        self._provider = provider
        self._traces = traces

    async def exchange(self, region: str, code: str) -> Credentials:
        with self._traces.span("exchange", provider=self.name, region=region):
            return await self._provider.exchange(region, code)

    async def refresh(self, region: str, credentials: Credentials) -> Credentials:
        with self._traces.span("refresh", provider=self.name, region=region):
            return await self._provider.refresh(region, credentials)

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> Available:
        with self._traces.span("available", provider=self.name, region=region):
            return await self._provider.available(region, credentials, priority)

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        with self._traces.span("readings", provider=self.name, region=region):
            return await self._provider.readings(region, credentials, window, priority)
