"""Process that has loaded the service and forks a command for each line of its input (see ``cli.py``).

A line is JSON: directory, arguments, environment, the files for output and errors, and whether to wait for the end. The
answer is a line with the exit code, or at once with the process id of a command that serves. A line with such an id is
answered with the exit code of the command, or null while it runs.
"""

import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from bg_ingest.cli import COMMANDS, main

PRELOADED_MODULES = (
    "bg_ingest.wiring",
    "bg_ingest.observability.logs",
    "anyio._backends._asyncio",
    "httpcore",
    "sqlite3",
    "bg_ingest.server",
    "bg_ingest.api.app",
    "workers.build",
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


def answer(request: Any) -> int | None:
    if isinstance(request, int):
        ended, status = os.waitpid(request, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None
    *command, waits = request
    child = os.fork()
    if not child:
        if not waits:
            os.setsid()  # a signal to its group reaches its own processes only
        run_command(*command)
    if not waits:
        return child
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def serve() -> None:
    for line in sys.stdin:
        sys.stdout.write(f"{json.dumps(answer(json.loads(line)))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    for named in COMMANDS.values():
        named.load()
    for name in PRELOADED_MODULES:
        import_module(name)
    assert threading.active_count() == 1, "a fork would lose the others"
    serve()
