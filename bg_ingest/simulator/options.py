"""Options of a simulated Dexcom, and random numbers without state: each depends only on a key and an index."""

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

Cadence = Literal[1, 5, 15]
_MASK = (1 << 64) - 1


class SimulatorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """All options except the clock. The same options always give the same users, readings and record ids.

    Empty `redirect_uris` accept any http or https address. `delay_seconds` is the time from a measurement to its
    visibility (Dexcom: 3600 in the US, 10800 elsewhere). `days_back` is the number of days with readings before
    the first start. `access_token_seconds` and `calls_per_hour` are Dexcom's own figures. `replay` is a Clarity CSV
    export, whose local times are read in `zone`. One more user, `ReplayUser`, has the exported readings at their
    original times.
    """

    seed: int = 1
    client_id: str = "simulated-client"
    client_secret: str = "simulated-secret"  # noqa: S105 - opens nothing but the simulator
    redirect_uris: tuple[str, ...] = ()
    users: int = 7
    cadence_minutes: Cadence = 5
    delay_seconds: int = 30
    days_back: int = 120
    calls_per_hour: int = 60_000
    access_token_seconds: int = 7200
    code_seconds: int = 60
    replay: Path | None = None
    zone: str = "UTC"


def key_of(*parts: object) -> int:
    """Return a 64-bit key for the parts, the same in every process (unlike Python's own `hash`)."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def hex_of(*parts: object) -> str:
    """Return 64 lower-case hexadecimal digits: the form of Dexcom's hashed ids."""
    return hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()


def chance(key: int, index: int) -> float:
    """Return a number in [0, 1), by the splitmix64 finalizer (Steele et al. 2014): a tenth of the cost of a digest."""
    mixed = (key + index * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)
