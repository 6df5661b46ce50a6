import pytest

from tests.harness.shared_apps import forbid_simulator_http


@pytest.fixture(autouse=True)
def _no_simulator_http(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_simulator_http(monkeypatch)
