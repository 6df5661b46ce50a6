"""Commands, their options and arguments, and exit codes of real runs."""

from pathlib import Path
from typing import Any

import rich_click as click

from bg_ingest.cli import COMMANDS
from tests.harness.cli import run_bg_ingest
from tests.snapshots.setting_table import STAGING

RUNS: tuple[tuple[str, dict[str, str]], ...] = (
    ("--help", {}),
    ("--version", {}),
    ("nonsense", {}),
    ("run --nonsense", {}),
    ("run --port 0", {}),
    ("run", {"PORT": "http"}),
    ("run", {"ENVIRONMENT": "staging"}),
    ("run --reload", STAGING),
    ("demo", {"DEXCOM_CLIENT_ID": "id", "DEXCOM_CLIENT_SECRET": "secret"}),
    ("simulator --replay nothing.csv", {}),
    ("simulator --cadence 7", {}),
    ("doctor --json", {"PORT": "http"}),
    ("connections", {}),
    ("connections --json", {}),
    ("connections --state nonsense", {}),
    ("outbox", {}),
    ("outbox --json", {}),
    ("outbox replay ada", {}),
    ("outbox replay", {}),
    ("keys", {}),
    ("keys list", {}),
    ("keys create", {}),
    ("keys create --name mine --scope readings:read --json", {}),
    ("keys create --name mine --scope nonsense", {}),
    ("keys revoke nobody", {}),
    ("keys create-encryption", {}),
    ("keys rotate-encryption", {}),
    ("tables create", {}),
    ("tables upgrade", {}),
    ("backfill ada --from 2026-03-01", {}),
    ("backfill ada --from nonsense", {}),
    ("verify ada", {}),
    ("verify ada --from 2026-03-05 --to 2026-03-01", {}),
    ("quarantine list ada", {}),
    ("quarantine show ada 12", {}),
    ("quarantine retry ada", {}),
    ("quarantine drop ada", {}),
)


def commands() -> dict[str, Any]:
    """Return every command with its parameters."""
    found: dict[str, Any] = {}
    for name, named in COMMANDS.items():
        _add(name, named.load(), found)
    return found


def _add(name: str, command: click.Command, found: dict[str, Any]) -> None:
    group = command if isinstance(command, click.Group) else None
    found[name] = {
        "runs": group is None or group.invoke_without_command,
        "parameters": [_described(parameter) for parameter in command.params],
    }
    for part, inner in group.commands.items() if group else ():
        _add(f"{name} {part}", inner, found)


def _described(parameter: click.Parameter) -> dict[str, Any]:
    kind = parameter.type
    default = parameter.default
    described: dict[str, Any] = {
        "kind": parameter.param_type_name,
        "names": [*parameter.opts, *parameter.secondary_opts]
        if isinstance(parameter, click.Option)
        else [parameter.human_readable_name],
        "type": kind.name,
        "required": parameter.required,
        "multiple": parameter.multiple,
        "values": parameter.nargs,
        "default": default if isinstance(default, bool | int | str) else None,
        "environment": parameter.envvar,
    }
    if isinstance(kind, click.IntRange):
        described["range"] = [kind.min, kind.max]
    if isinstance(kind, click.Choice):
        described["choices"] = [str(choice) for choice in kind.choices]
    return described


def exit_codes(folder: Path) -> dict[str, int]:
    """Return the exit codes of commands in empty folders."""
    found: dict[str, int] = {}
    for number, (line, environment) in enumerate(RUNS):
        place = folder / str(number)
        place.mkdir()
        title = f"{line} ({', '.join(environment)})" if environment else line
        found[title] = run_bg_ingest(place, *line.split(), **environment).returncode
    return found
