"""The simulated provider as a server of its own, with every option: the command has those that people need."""

import sys
from functools import partial
from pathlib import Path

import msgspec
from litestar import Litestar

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.server import Server, listen
from bg_ingest.simulator import SimulatorOptions, create_simulator


def load(options: SimulatorOptions, journal: Path) -> Litestar:
    return create_simulator(options, now=SystemClock().now, journal=journal)


def main(options: str, journal: str, port: str) -> None:
    chosen = msgspec.json.decode(options, type=SimulatorOptions)
    Server(partial(load, chosen, Path(journal)), listen("127.0.0.1", int(port))).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
