"""Options of a simulated Dexcom."""

from pathlib import Path
from typing import Literal

import msgspec

Cadence = Literal[1, 5, 15]


class SimulatorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """All options except the clock. The same options always give the same users, readings and record ids.

    Empty `redirect_uris` accept any http or https address. `delay_seconds` is the time from a measurement to its
    visibility (Dexcom: 3600 in the US, 10800 elsewhere). `days_back` is the length of the readings before the first
    start. `access_token_seconds` and `calls_per_hour` are Dexcom's own figures. `replay` is a Clarity CSV export, whose
    local times are read in `zone`. Its readings become those of one more user, `ReplayUser`, on their own dates.
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
