"""Liveness, readiness and metrics over HTTP."""

from tests.harness.api import ApiHarness


async def test_readiness_names_the_reasons(api: ApiHarness) -> None:
    assert (await api.http.get("/health/ready")).json() == {"status": "ready"}
    api.process_health.degraded_answer = ["broker"]
    assert (await api.http.get("/health/ready")).json() == {"status": "ready", "degraded": ["broker"]}
    api.process_health.unready_answer = ["draining"]
    answer = await api.http.get("/health/ready")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["type"], answer.json()["reasons"]) == ("not-ready", ["draining"])


async def test_being_alive_depends_on_nothing(api: ApiHarness) -> None:
    api.process_health.unready_answer = ["starting"]
    answer = await api.http.get("/health/live")
    assert answer.status_code == 200
    assert api.table.asked == (0, 0, 0)


async def test_metrics_are_the_text_of_the_registry(api: ApiHarness) -> None:
    answer = await api.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "\nbg_ingest_build_info{" in answer.text
    assert api.table.asked == (0, 0, 0)
