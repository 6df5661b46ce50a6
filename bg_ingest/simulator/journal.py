"""The simulator's memory as a list of events: appended and synced to a file, read again after a restart.

One JSON line per event. Tokens stand there as SHA-256 only; they are computed anew from the seed, never stored.
"""

import hashlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import msgspec

from bg_ingest.simulator.faults import Fault


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    at: datetime


class Began(_Event, frozen=True, tag="began"):
    """The first start: where the simulated users' readings begin, so that a restart does not shorten them."""

    readings_from: datetime


class Granted(_Event, frozen=True, tag="granted"):
    """A code was exchanged. `token` is the first refresh token's hash."""

    grant: int
    user: str
    client_id: str
    token: str
    answered: bool


class Rotated(_Event, frozen=True, tag="rotated"):
    """A refresh token was spent for a new one. `answered` False: a fault kept the reply from the client."""

    grant: int
    user: str
    old: str
    new: str
    answered: bool


class Revoked(_Event, frozen=True, tag="revoked"):
    """The user took back every grant."""

    user: str


class FaultAdded(_Event, frozen=True, tag="fault_added"):
    number: int
    fault: Fault


class FaultMet(_Event, frozen=True, tag="fault_met"):
    """A call met a counted fault."""

    number: int


class FaultRemoved(_Event, frozen=True, tag="fault_removed"):
    number: int


Event: TypeAlias = Began | Granted | Rotated | Revoked | FaultAdded | FaultMet | FaultRemoved


def token_hash(token: str) -> str:
    """How a token is named where it must not stand: SHA-256, hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


class Journal:
    """An append-only file of events; without a path it forgets."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def replay(self) -> Iterator[Event]:
        """The events so far. A last line torn by a kill was never acted upon and is cut off."""
        if self._path is None or not self._path.exists():
            return
        whole = 0
        with self._path.open("r+b") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                yield msgspec.json.decode(line, type=Event)
            file.truncate(whole)

    def append(self, event: Event) -> None:
        """Returns when the event is on the disk: only then may a token be told to anybody."""
        if self._path is None:
            return
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(event) + b"\n")
            file.flush()
            os.fsync(file.fileno())
