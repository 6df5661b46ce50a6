"""Answers of /metrics, as Prometheus reads them."""

from prometheus_client.parser import text_string_to_metric_families

from tests.harness.service import ServiceHarness


class Scrape:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of a name that carry these labels."""
        found = [each for each in self._samples if each.name == f"bg_ingest_{name}"]
        return sum(each.value for each in found if labels.items() <= each.labels.items())


async def scrape(service: ServiceHarness) -> Scrape:
    answer = await service.api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Scrape(answer.text)
