"""``bg-ingest quarantine`` as a terminal runs it, over a store in a file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.cli import environment, run_bg_ingest

FILL = """
from bg_ingest.commands.context import run_with_services
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.readings import Unreadable
from bg_ingest.settings import get_settings
from tests.harness.polling_parts import build_quarantine_of
from tests.harness.sample_values import commit_connection, connection

RECORDS = [
    b'{"systemTime":"2026-03-02T11:00:00Z","value":111,"unit":null}',
    b'{"systemTime":null,"value":112,"unit":"mg/dL"}',
    b'{"systemTime":"2026-03-02T12:00:00Z","value":113,"unit":null,"note":"' + b"x" * 2000 + b'"}',
    b'{"systemTime":"2026-03-02T11:30:00Z","value":114,"unit":"mg/dL","displayDevice":"iOS"}',
]

async def fill(services):
    ada = await commit_connection(services.store, connection(id=ConnectionId(UserId("ada"), "dexcom")))
    reasons = ["unit_unknown", "no_time", "unit_unknown", "bad_time"]  # the last one is readable now
    unreadable = [Unreadable(*record) for record in zip(reasons, RECORDS)]
    quarantine = await build_quarantine_of(services, get_settings())
    assert (await quarantine.add(ada, unreadable)).quarantined == 4

run_with_services(fill)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    filled = subprocess.run(
        [sys.executable, "-c", FILL], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert filled.returncode == 0, filled.stderr
    return tmp_path


def list_records(folder: Path, *arguments: str) -> list[dict[str, str]]:
    shown = run_bg_ingest(folder, "quarantine", "list", *arguments, "--json")
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


def test_it_lists_shows_retries_and_drops(folder: Path) -> None:
    all_records = list_records(folder)
    assert all_records == list_records(folder, "ada")
    assert sorted(each["reason"] for each in all_records) == ["bad_time", "no_time", "unit_unknown", "unit_unknown"]
    listing = run_bg_ingest(folder, "quarantine", "list")
    assert listing.stderr.startswith("4 quarantined: 2 unit_unknown, ")
    for value in ("111", "112", "113", "114"):
        assert value not in listing.stdout + json.dumps([each | {"record": ""} for each in all_records])

    (timeless,) = (each["record"] for each in all_records if each["reason"] == "no_time")
    facts = run_bg_ingest(folder, "quarantine", "show", "ada", timeless[:12])
    assert facts.stdout.split() == ["ada", timeless, "no_time", "-", facts.stdout.split()[-1]]
    raw = run_bg_ingest(folder, "quarantine", "show", "ada", timeless, "--raw")
    assert json.loads(raw.stdout) == {"systemTime": None, "value": 112, "unit": "mg/dL"}

    retried = run_bg_ingest(folder, "quarantine", "retry")
    assert retried.returncode == 0, retried.stderr
    assert sorted(line.split()[-1] for line in retried.stdout.splitlines()) == [
        "released",
        "truncated",
        "unreadable",
        "unreadable",
    ]
    assert len(list_records(folder)) == 3

    dropped = run_bg_ingest(folder, "quarantine", "drop", "ada", "--reason", "unit_unknown")
    assert (dropped.returncode, dropped.stdout) == (0, "Dropped 2.\n")
    assert [each["record"] for each in list_records(folder)] == [timeless]
    dropped = run_bg_ingest(folder, "quarantine", "drop", "ada", timeless[:8])
    assert (dropped.returncode, list_records(folder)) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["show", "ada", "ffff"], 1),
        (["show", "a#b", "ffff"], 2),
        (["drop", "ada"], 2),
        (["drop", "ada", "ffff", "--reason", "no_time"], 2),
        (["drop", "ada", "--reason", "no_value"], 1),
        (["retry", "ada", "ffff"], 1),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_one_sentence_that_says_what_to_do(
    tmp_path: Path, arguments: list[str], code: int
) -> None:
    refused = run_bg_ingest(tmp_path, "quarantine", *arguments)
    assert refused.returncode == code
    assert "Traceback" not in refused.stderr
    assert refused.stderr.strip().endswith(".")
    assert refused.stderr.count("\n") == 1
