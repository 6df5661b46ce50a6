"""Output and exits of commands: a table or a sentence for people, JSON for programs, and exit codes."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: slow imports stand in the functions that need them

import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

import rich_click as click

FAILED, WRONG_USAGE = 1, 2

STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def exit_usage(sentence: str) -> NoReturn:
    """End the command because of its settings or usage. The sentence says what to do."""
    click.echo(sentence, err=True)
    sys.exit(WRONG_USAGE)


def exit_failure(sentence: str) -> NoReturn:
    """End the command because of a failure while it ran. The sentence says what to do."""
    click.echo(sentence, err=True)
    sys.exit(FAILED)


def print_json(value: object) -> None:
    """Print a value as indented JSON; instants are RFC 3339."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, with colours on a terminal only. Elsewhere lines are not folded, for programs that read them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=1000)
    console.print(table)
