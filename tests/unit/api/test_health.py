"""Liveness and readiness over HTTP."""

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
