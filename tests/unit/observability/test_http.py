from typing import Any, cast

import anyio
import pytest

from bg_ingest.observability.http import RequestMetrics
from bg_ingest.observability.registry import MetricsRegistry
from tests.harness.scrape import scrape
from tests.harness.service import ServiceHarness


@pytest.mark.slow
async def test_no_user_is_named(service: ServiceHarness) -> None:
    async with service.running():
        await service.connect("ada-with-a-name")
        await service.api.get("/api/bg/ada-with-a-name/latest")
        await service.api.get("/ada-with-a-name")
        await service.api.request("ADA-WITH-A-NAME", "/health/live")
        await anyio.sleep(60)
        metrics = await scrape(service)
    assert "ada-with-a-name" not in metrics.text.lower()
    assert metrics("http_request_seconds_count", method="OTHER") == 1
    assert metrics("http_request_seconds_count", route="none", status="404") == 1


async def test_a_request_whose_client_left_before_the_response_counts_as_499() -> None:
    async def app(*_: Any) -> None:
        """Ends without a response."""

    registry = MetricsRegistry()
    await RequestMetrics(app, registry)({"type": "http", "method": "GET"}, cast("Any", None), cast("Any", None))
    labels = {"method": "GET", "route": "none", "status": "499"}
    assert registry.registry.get_sample_value("bg_ingest_http_request_seconds_count", labels) == 1


async def test_what_is_no_request_is_passed_on_and_not_counted() -> None:
    scopes: list[str] = []

    async def app(scope: Any, *_: Any) -> None:
        scopes.append(scope["type"])

    registry = MetricsRegistry()
    await RequestMetrics(app, registry)({"type": "lifespan"}, cast("Any", None), cast("Any", None))
    assert scopes == ["lifespan"]
    counts = [
        line for line in registry.text().splitlines() if line.startswith(b"bg_ingest_http_request_seconds_count{")
    ]
    assert [line.rpartition(b" ")[2] for line in counts] == [b"0.0"], "only the series that exists from the start"


async def test_s1_anonymous_requests_add_no_series() -> None:
    async def app(scope: Any, _: Any, send: Any) -> None:
        scope |= {"path_template": scope["path"], "state": {"unauthenticated": True}}
        await send({"type": "http.response.start", "status": 401})

    async def send(_: Any) -> None: ...

    registry = MetricsRegistry()
    measured = RequestMetrics(app, registry)
    before = registry.text().count(b"\nbg_ingest_http_request_seconds")
    for method in ("GET", "POST", "PATCH", "BREW"):
        for number in range(20):
            scope = {"type": "http", "method": method, "path": f"/api/{number}"}
            await measured(scope, cast("Any", None), cast("Any", send))
    assert registry.text().count(b"\nbg_ingest_http_request_seconds") == before
    labels = {"method": "OTHER", "route": "none", "status": "401"}
    assert registry.registry.get_sample_value("bg_ingest_http_request_seconds_count", labels) == 80
