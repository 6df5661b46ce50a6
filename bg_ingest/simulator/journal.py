"""State of the simulator as a list of events: appended and synced to a file, replayed after a restart.

One JSON line per event. Tokens are recorded as SHA-256 hashes; the tokens themselves are computed from the seed.
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
    """First start of the simulator. After a restart the simulated readings still begin at ``readings_from``."""

    readings_from: datetime


class Granted(_Event, frozen=True, tag="granted"):
    """A code was exchanged. `token` is the first refresh token's hash."""

    grant: int
    user: str
    client_id: str
    token: str
    answered: bool


class Rotated(_Event, frozen=True, tag="rotated"):
    """A refresh token was exchanged for a new one. `answered` False: a fault cut the reply."""

    grant: int
    user: str
    old: str
    new: str
    answered: bool


class Revoked(_Event, frozen=True, tag="revoked"):
    """The user revoked every grant."""

    user: str


class FaultAdded(_Event, frozen=True, tag="fault_added"):
    number: int
    fault: Fault


class FaultMet(_Event, frozen=True, tag="fault_met"):
    """A fault with a `count` affected a call."""

    number: int


class FaultRemoved(_Event, frozen=True, tag="fault_removed"):
    number: int


Event: TypeAlias = Began | Granted | Rotated | Revoked | FaultAdded | FaultMet | FaultRemoved


def token_hash(token: str) -> str:
    """Return the SHA-256 of a token, hexadecimal, for places that must not contain the token."""
    return hashlib.sha256(token.encode()).hexdigest()


class JournalUnreadable(Exception):
    """A line is no event. The state after it would be wrong; the text names the remedy."""


class Journal:
    """Append-only file of events; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def replay(self) -> Iterator[Event]:
        """Yield the stored events. An incomplete last line, left by a kill, had no effect and is removed."""
        if self._path is None or not self._path.exists():
            return
        complete_bytes = 0
        with self._path.open("r+b") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                complete_bytes += len(line)
                try:
                    yield msgspec.json.decode(line, type=Event)
                except ValueError as problem:
                    sentence = (
                        f"{self._path}, line {number}, is no event of a simulator: move this file, or name another one."
                    )
                    raise JournalUnreadable(sentence) from problem
            file.truncate(complete_bytes)

    def append(self, event: Event) -> None:
        """Write the event to the disk. A token may be sent only after this returns."""
        if self._path is None:
            return
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(event) + b"\n")
            file.flush()
            os.fsync(file.fileno())
