"""Tables and JSON of commands, away from a terminal."""

import json
from datetime import UTC, datetime

import pytest

from bg_ingest.commands.output import exit_failure, exit_usage, print_json, print_table


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
