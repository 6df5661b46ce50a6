"""Process that has loaded the service and forks a command for each line of its input (see ``cli.py``).

A line is JSON: directory, arguments, environment, and the files for output and errors. The answer is a line with the
exit code.
"""

import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module

from bg_ingest.cli import COMMANDS, main

PRELOADED_MODULES = (
    "bg_ingest.wiring",
    "bg_ingest.observability.logs",
    "anyio._backends._asyncio",
    "httpcore",
    "sqlite3",
)


def run_command(folder: str, arguments: Sequence[str], environment: Mapping[str, str], out: str, err: str) -> None:
    os.chdir(folder)
    surroundings = os.environ  # noqa: TID251 - it is given others
    surroundings.clear()
    surroundings.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, out), (2, err)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    main([*arguments], prog_name="bg-ingest")


def serve() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run_command(*json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    for named in COMMANDS.values():
        named.load()
    for name in PRELOADED_MODULES:
        import_module(name)
    assert threading.active_count() == 1, "a fork would lose the others"
    serve()
