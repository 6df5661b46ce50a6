"""Limits of the machine."""

import resource
import subprocess
import sys
from pathlib import Path

from bg_ingest.doctor.finding import Finding, Verdict
from bg_ingest.doctor.machine import check_machine
from bg_ingest.server import MAX_FILES
from tests.harness.cli import environment


def verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    return {each.check: each.verdict for each in findings}


def test_too_few_files_are_a_warning_that_names_what_the_server_takes(tmp_path: Path) -> None:
    """The server raises its own limit, so what cannot be raised counts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = most if most > 0 else MAX_FILES
    assert verdicts(check_machine(enough, None)) == {"limits": Verdict.OK}
    limited = f"ulimit -n {min(enough, MAX_FILES) - 1}; exec '{sys.executable}' -m bg_ingest.cli doctor --json"
    shown = subprocess.run(
        ["sh", "-c", limited], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert f"raise it to {MAX_FILES}: ulimit -n" in shown.stdout


def test_the_disk_is_checked_before_its_folder_is_made(tmp_path: Path) -> None:
    assert verdicts(check_machine(0, tmp_path / "not" / "yet")).keys() == {"limits", "disk"}
