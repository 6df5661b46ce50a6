"""Replacements of the service in the long runs start and work. The long runs themselves run now and then."""

from pathlib import Path

import pytest

from tests.long.chaos.drains import with_a_crash
from tests.long.chaos.report import Report


def test_a_crash_of_the_runtime_ends_the_process_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("A crash")
    with_a_crash(report, tmp_path)
    report.show()  # SystemExit if a check fails
    assert "all holds" in capsys.readouterr().out
