"""GET /metrics."""

from tests.harness.api import ApiHarness


async def test_it_answers_the_text_of_the_registry(api: ApiHarness) -> None:
    answer = await api.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "\nbg_ingest_build_info{" in answer.text
    assert api.table.asked == (0, 0, 0)
