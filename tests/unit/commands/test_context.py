"""Settings, store, output and exit codes of a command."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bg_ingest.commands.context import exit_failure, exit_usage, print_json, print_table
from tests.harness.cli import Serve, environment, run_bg_ingest


def test_wrong_settings_are_listed_and_end_with_two(tmp_path: Path) -> None:
    refused = run_bg_ingest(tmp_path, "run", ENVIRONMENT="production")
    assert refused.returncode == 2
    assert "RABBITMQ_URL" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_command_that_needs_the_store_has_it_or_says_who_has(serve: Serve, tmp_path: Path) -> None:
    code = """
from bg_ingest.commands.context import run_with_services

async def count(services):
    return [await services.store.readings.head("ada"), services.connector is not None]

print(run_with_services(count))
"""

    def ask() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )

    alone = ask()
    assert (alone.returncode, alone.stdout) == (0, "[None, True]\n"), alone.stderr
    running = serve("run")
    running.until(lambda: running.answers("/health/ready"))
    beside = ask()
    assert beside.returncode == 1
    assert re.fullmatch(r"\S+/bg-ingest\.sqlite is in use: stop the running service .*\.\n", beside.stderr)


def test_away_from_a_terminal_a_table_has_neither_colours_nor_folded_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("check", "verdict"), [("store", "failed"), ("x" * 300, "ok")])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert [line.split() for line in printed.splitlines() if "store" in line or "xxx" in line] == [
        ["store", "failed"],
        ["x" * 300, "ok"],
    ]


def test_json_has_instants_of_rfc_3339(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"at": datetime(2026, 3, 1, tzinfo=UTC)})
    assert json.loads(capsys.readouterr().out) == {"at": "2026-03-01T00:00:00Z"}


def test_a_failure_ends_with_one_and_wrong_usage_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    for end, code in ((exit_failure, 1), (exit_usage, 2)):
        with pytest.raises(SystemExit) as ended:
            end("Do this instead.")
        assert ended.value.code == code
        assert capsys.readouterr().err == "Do this instead.\n"
