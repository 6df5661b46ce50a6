"""The command line: a table of names. A command's file is loaded when it is used, so help answers at once."""

import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import rich_click as click

from bg_ingest import __version__


class CommandEntry(NamedTuple):
    """Where a command is, and what help says of it without loading it."""

    target: str
    """The attribute of a module in ``bg_ingest/commands``, "module:attribute"."""
    help: str
    """The first line of the command's own help; a test compares them."""

    def load(self) -> click.Command:
        module, _, attribute = self.target.partition(":")
        command: click.Command = getattr(import_module(f"bg_ingest.commands.{module}"), attribute)
        return command


COMMANDS = {
    "run": CommandEntry("serve:run", "Serve, poll and tell until stopped."),
    "demo": CommandEntry(
        "serve:demo", "Run with a simulated Dexcom and three people connected to it; says what to try."
    ),
    "simulator": CommandEntry("simulator:simulator", "Serve the simulated Dexcom alone."),
    "doctor": CommandEntry("doctor:doctor", "Check what the service needs, and say what to do."),
    "connections": CommandEntry("connections:connections", "List the connections and how they stand."),
    "outbox": CommandEntry("outbox:outbox", "Events that wait to be told."),
    "keys": CommandEntry(
        "keys:keys", "API keys: who may ask, for what, about whom. And the keys that seal what is stored."
    ),
    "tables": CommandEntry("tables:tables", "The table in DynamoDB."),
    "backfill": CommandEntry("backfill:backfill", "Read a person's past again, newest first."),
    "verify": CommandEntry("verify:verify", "Compare what is stored with what the provider has, reading by reading."),
    "quarantine": CommandEntry("quarantine:quarantine", "Records of providers that could not be read."),
}
"""In the order of help."""


class CommandGroup(click.RichGroup):
    """A group that shows every command of the table and loads only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Return what help needs; ``resolve_command`` has the command itself."""
        named = COMMANDS.get(cmd_name)
        return named and click.RichCommand(name=cmd_name, help=named.help)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, shown, rest = super().resolve_command(ctx, args)
        return name, COMMANDS[name].load() if name else shown, rest


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bg-ingest")
def main() -> None:
    """Connect continuous glucose monitors: poll, store, tell, answer.

    Settings come from the environment and .env; .env.example explains each of them.

    Exit codes: 0 ok, 1 failure while running, 2 wrong settings or usage.
    """
    # Without a handler, process 1 of a container would not hear it until the server has its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # `python -m` puts the current directory first, and an app.py or workers/ there would be served for ours.
    sys.path.insert(0, str(Path(__file__).parents[1]))


if __name__ == "__main__":
    main(prog_name="bg-ingest")
