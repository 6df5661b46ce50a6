"""``bg-ingest doctor`` on broken set-ups (on a good one: ``test_connections.py``), and ``tables create``."""

import re
from pathlib import Path

from tests.harness.aws import CREDENTIALS
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


def test_without_dynamodb_nothing_is_to_be_created(tmp_path: Path) -> None:
    done = run_bg_ingest(tmp_path, "tables", "create")
    assert (done.returncode, "which the first start creates" in done.stdout) == (0, True)


def test_a_table_is_created_once_and_a_missing_server_is_one_sentence(tmp_path: Path, moto_server: str) -> None:
    settings = {"DYNAMODB_ENDPOINT": moto_server, "DYNAMODB_TABLE": "by-command", **CREDENTIALS}
    first, second = (run_bg_ingest(tmp_path, "tables", "create", **settings) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "Table by-command was created, billed by request." in first.stdout
    assert "Table by-command already exists." in second.stdout
    refused = run_bg_ingest(tmp_path, "tables", "create", **settings | {"DYNAMODB_ENDPOINT": "http://127.0.0.1:1"})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "DynamoDB does not answer: EndpointConnectionError.\n"
