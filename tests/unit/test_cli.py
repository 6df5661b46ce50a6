"""Commands as run by a terminal."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import rich_click as click

from bg_ingest.cli import COMMANDS
from tests.harness.cli import ROOT, run_bg_ingest


def loaded_by(code: str) -> set[str]:
    """Return the packages and our own modules that some code loads."""
    ask = f"import sys; from bg_ingest.cli import *; {code}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = set(shown.stdout.split())
    return {name for name in modules if "." not in name or name.startswith("bg_ingest.")}


TAKES_TIME = {"litestar", "granian", "pydantic", "httpx", "authlib", "anyio", "aioboto3", "aiormq", "structlog"}


def test_help_loads_no_command() -> None:
    loaded = loaded_by("main(['--help'], standalone_mode=False)")
    assert "bg_ingest.cli" in loaded
    assert not loaded & {"bg_ingest.commands", *TAKES_TIME}


def test_the_help_of_a_command_loads_nothing_that_takes_time() -> None:
    loaded = loaded_by("[named.load() for named in COMMANDS.values()]")
    assert "bg_ingest.commands.serve" in loaded
    assert not loaded & TAKES_TIME


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_help_that_the_table_shows(name: str) -> None:
    command = COMMANDS[name].load()
    assert command.name == name
    assert (command.help or "").partition("\n")[0] == COMMANDS[name].help
    assert COMMANDS[name].help.endswith(".")
    commands = [command, *(command.commands.values() if isinstance(command, click.Group) else [])]
    assert [each.name for each in commands if not each.help] == []


def test_every_command_is_in_the_table() -> None:
    defining = {
        path.stem
        for path in (ROOT / "bg_ingest/commands").glob("*.py")
        if re.search(r'^@click\.(command|group)\((?!")', path.read_text(), re.MULTILINE)  # named: in a group
    }
    assert defining == {named.target.partition(":")[0] for named in COMMANDS.values()}


def test_help_says_what_there_is(tmp_path: Path) -> None:
    shown = run_bg_ingest(tmp_path, "--help")
    assert shown.returncode == 0
    assert all(word in shown.stdout for word in ("run", "demo", "simulator", "Exit codes"))


@pytest.mark.parametrize("arguments", [["walk"], ["run", "--port", "0"], ["simulator", "--cadence", "7"]])
def test_wrong_usage_ends_with_two(tmp_path: Path, arguments: list[str]) -> None:
    assert run_bg_ingest(tmp_path, *arguments).returncode == 2
