"""``bg-ingest doctor`` on broken set-ups; on a good one: ``test_connections.py``."""

import re
from pathlib import Path

from tests.harness.cli import run_bg_ingest


def test_a_broken_set_up_is_reported_with_the_remedy(tmp_path: Path) -> None:
    broken = run_bg_ingest(
        tmp_path,
        "doctor",
        RABBITMQ_URL="amqp://guest:guest@127.0.0.1:1/",
        DYNAMODB_ENDPOINT="http://127.0.0.1:1",
        DEXCOM_CLIENT_ID="id",
        DEXCOM_CLIENT_SECRET="secret",
        DEXCOM_API_BASE_URL="http://127.0.0.1:1",
    )
    assert broken.returncode == 1
    for check, advice in (("table", "DYNAMODB_ENDPOINT"), ("broker", "RABBITMQ_URL"), ("provider", "network")):
        assert re.search(rf"^{check} +failed .*{advice}", broken.stdout, re.MULTILINE), broken.stdout
    assert "Traceback" not in broken.stderr
    assert run_bg_ingest(tmp_path, "doctor", ENVIRONMENT="production").returncode == 2
