"""How a command ends that does not do what was asked: one sentence that says what to do, and an exit code."""

import sys
from typing import NoReturn

import rich_click as click

FAILED, WRONG_USAGE = 1, 2


def exit_usage(sentence: str) -> NoReturn:
    """End because of the settings or the usage."""
    click.echo(sentence, err=True)
    sys.exit(WRONG_USAGE)


def exit_failure(sentence: str) -> NoReturn:
    """End because something went wrong on the way."""
    click.echo(sentence, err=True)
    sys.exit(FAILED)
