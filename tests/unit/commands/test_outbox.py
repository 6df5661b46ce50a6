"""``bg-ingest outbox`` on an empty store; with changes: ``test_connections.py``."""

import json
from pathlib import Path

from tests.harness.cli import run_bg_ingest


def test_an_empty_outbox_is_reported(tmp_path: Path) -> None:
    shown = run_bg_ingest(tmp_path, "outbox")
    assert (shown.returncode, shown.stdout) == (0, "Nothing waits.\n")
    counted = run_bg_ingest(tmp_path, "outbox", "--json")
    assert json.loads(counted.stdout) == {"waiting": 0, "users": 0, "oldest": None}


def test_a_replay_of_nothing_is_a_failure_in_one_sentence(tmp_path: Path) -> None:
    refused = run_bg_ingest(tmp_path, "outbox", "replay", "ada", "--from", "3")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert len(refused.stderr.splitlines()) == 1
    assert run_bg_ingest(tmp_path, "outbox", "replay", "ada", "--from", "0").returncode == 2
