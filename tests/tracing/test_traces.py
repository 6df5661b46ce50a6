"""One trace leads from a look at the provider to the confirmed event."""

import sys

import anyio
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bg_ingest.domain.connections import Defaults
from bg_ingest.errors import IngestError
from bg_ingest.simulator.faults import Failed
from bg_ingest.tracing import UNTRACED, tracing
from bg_ingest.tracing.traces import Traces
from tests.conftest import on
from tests.house import house
from tests.hygiene import assert_clean

anyio_backend = on("asyncio")
"""As the server."""


async def test_a_reading_is_followed_from_the_call_to_the_confirmation() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces = Traces(provider.get_tracer("test"))
    async with house(defaults=Defaults(backfill_days=1), traces=traces) as opened, opened.running():
        await opened.connect("ada-by-name")
        await anyio.sleep(2000)
        opened.simulator.add_fault(Failed(endpoint="egvs", count=1))
        await anyio.sleep(2000)
    spans = exporter.get_finished_spans()
    ids = {each.context.span_id: each for each in spans if each.context}
    told = [each for each in spans if each.name == "publish"]
    parents = [ids[each.parent.span_id] for each in told if each.parent]
    looks = [each for each in parents if each.name == "turn"]
    assert len(looks) >= 3, "a poll's change is told within its turn's trace"
    calls = [each for each in spans if each.name == "readings"]
    assert all(each.parent and ids[each.parent.span_id].name == "turn" for each in calls)
    assert {each.attributes["bg.outcome"] for each in told if each.attributes} == {"confirmed"}
    failed = [each for each in calls if not each.status.is_ok and each.attributes and "bg.outcome" in each.attributes]
    assert [each.attributes["bg.outcome"] for each in failed if each.attributes] == ["ProviderUnavailable"]
    exported = "".join(each.to_json() for each in spans)
    assert "ada-by-name" not in exported
    assert_clean(exported, "a span")


async def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bg_ingest.tracing.export", None)
    with pytest.raises(IngestError, match="pip install"):
        async with tracing("http://localhost:4318/v1/traces"):
            pass
    async with tracing(None) as nothing:
        assert nothing is UNTRACED
