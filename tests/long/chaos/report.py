"""Results of a run, as a table for readers and an exit code for machines."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

console = Console(highlight=False, soft_wrap=True)


class Report:
    """Figures and errors, in the order of their discovery."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._figures: list[tuple[str, str]] = []
        self._wrong: list[str] = []

    def figure(self, name: str, value: Any) -> None:
        self._figures.append((name, f"{value:,}" if isinstance(value, int) else str(value)))

    def check(self, name: str, value: Any, *, holds: bool, expected: str) -> None:
        """Record a figure with a condition."""
        self.figure(name, value)
        if not holds:
            self._wrong.append(f"{name}: {value}, expected {expected}")

    def wrong(self, sentence: str) -> None:
        self._wrong.append(sentence)

    def show(self) -> None:
        """Print the table; leave with exit code 1 at any error."""
        table = Table(title=self._title, title_justify="left", show_header=False)
        for name, value in self._figures:
            table.add_row(name, value)
        console.print(table)
        for sentence in self._wrong:
            console.print(f"[bold red]WRONG[/] {sentence}")
        console.print("[bold red]failed[/]" if self._wrong else "[bold green]all holds[/]")
        if self._wrong:
            sys.exit(1)
