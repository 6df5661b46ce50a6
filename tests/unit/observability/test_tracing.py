"""One trace from the poll of the provider to the confirmed event."""

import anyio
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.observability.tracing import Traces
from bg_ingest.simulator.faults import Failed
from tests.conftest import on
from tests.harness.hygiene import assert_clean
from tests.harness.service import open_service

anyio_backend = on("asyncio")
"""asyncio, as in the server."""


@pytest.mark.slow
async def test_a_reading_is_followed_from_the_call_to_the_confirmation() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces = Traces(provider.get_tracer("test"))
    async with open_service(defaults=PollDefaults(backfill_days=1), observers=[traces]) as service, service.running():
        await service.connect("ada-by-name")
        await anyio.sleep(2000)
        service.simulator.add_fault(Failed(endpoint="egvs", count=1))
        await anyio.sleep(2000)
    spans = exporter.get_finished_spans()
    ids = {each.context.span_id: each for each in spans if each.context}
    publish_spans = [each for each in spans if each.name == "publish"]
    parents = [ids[each.parent.span_id] for each in publish_spans if each.parent]
    poll_spans = [each for each in parents if each.name == "poll"]
    assert len(poll_spans) >= 3, "a poll's change is published within the trace of the poll"
    calls = [each for each in spans if each.name == "readings"]
    assert all(each.parent and ids[each.parent.span_id].name == "poll" for each in calls)
    assert {each.attributes["bg.outcome"] for each in publish_spans if each.attributes} == {"confirmed"}
    failed = [each for each in calls if not each.status.is_ok and each.attributes and "bg.outcome" in each.attributes]
    assert [each.attributes["bg.outcome"] for each in failed if each.attributes] == ["ProviderUnavailable"]
    exported = "".join(each.to_json() for each in spans)
    assert "ada-by-name" not in exported
    assert_clean(exported, "a span")
