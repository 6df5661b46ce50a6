"""The command line: a table of commands. Only the module of the called command is loaded, so that help is fast."""

import errno
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

import rich_click as click

from bg_ingest import __version__
from bg_ingest.observability.lossy_stream import LossyStream


class CommandEntry(NamedTuple):
    """Location of a command, and its help text, which needs no loading."""

    target: str
    """Module in ``bg_ingest/commands`` and attribute, "module:attribute"."""
    help: str
    """First line of the command's own help; a test compares them."""

    def load(self) -> click.Command:
        module, _, attribute = self.target.partition(":")
        command: click.Command = getattr(import_module(f"bg_ingest.commands.{module}"), attribute)
        return command


COMMANDS = {
    "run": CommandEntry("serve:run", "Serve, poll and publish until stopped."),
    "demo": CommandEntry(
        "serve:demo", "Run with a simulated Dexcom and three connected users, and print requests to try."
    ),
    "simulator": CommandEntry("serve:simulator", "Serve the simulated Dexcom alone."),
    "doctor": CommandEntry(
        "setup:doctor", "Check everything that the service depends on, with advice for each failure."
    ),
    "connections": CommandEntry("connections:connections", "List the connections with their states."),
    "outbox": CommandEntry("outbox:outbox", "Show unpublished events, or publish changes again."),
    "keys": CommandEntry("keys:keys", "Manage API keys and the keys that encrypt stored secrets."),
    "tables": CommandEntry("setup:tables", "Create the table in DynamoDB, or upgrade stored data."),
    "backfill": CommandEntry("history:backfill", "Read a user's past data again, newest first."),
    "dataset": CommandEntry(
        "dataset:dataset",
        "Write a dataset: Parquet files (parts) of 1,000 users each, and a manifest with the digest of each part.",
    ),
    "verify": CommandEntry("history:verify", "Compare the stored readings with the provider's, one by one."),
    "quarantine": CommandEntry("quarantine:quarantine", "Provider records that could not be translated."),
}
"""Commands in the order of help."""


OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""Errors of a stdout that cannot be written: disk full, quota, terminal gone. click handles EPIPE."""


class CommandGroup(click.RichGroup):
    """Group that shows every command of the table and loads only the called one."""

    def main(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - click's signature
        _open_missing_streams()
        sys.stderr = LossyStream(sys.stderr)
        try:
            return super().main(*args, **options)
        except OSError as error:
            if error.errno not in OUTPUT_ERRORS or error.filename is not None:
                raise
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - its flush at the exit does not fail
            sys.exit(f"The output cannot be written: {error.strerror}.")

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Return a placeholder with the help text; ``resolve_command`` returns the command itself."""
        entry = COMMANDS.get(cmd_name)
        return entry and click.RichCommand(name=cmd_name, help=entry.help)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, shown, rest = super().resolve_command(ctx, args)
        return name, COMMANDS[name].load() if name else shown, rest


def _open_missing_streams() -> None:
    """Open /dev/null for standard streams that are closed, because a socket or file would get their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bg-ingest")
def main() -> None:
    """Connect continuous glucose monitors: poll, store, publish, answer.

    Settings come from the environment and .env; .env.example explains each of them.

    Exit codes: 0 ok, 1 failure while running, 2 wrong settings or usage.
    """
    # Without a handler, process 1 of a container ignores SIGTERM until the server sets its own handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 shows escapes instead of a UnicodeEncodeError
        if isinstance(stream, TextIOWrapper):
            with suppress(OSError):  # the output is gone
                stream.reconfigure(errors="backslashreplace")
    # `python -m` puts the current directory first: an app.py or workers/ there would be imported instead of ours.
    sys.path.insert(0, str(Path(__file__).parents[1]))


if __name__ == "__main__":
    main(prog_name="bg-ingest")
