"""What a simulated Dexcom can be told at its start."""

from pathlib import Path
from typing import Literal

import msgspec

Cadence = Literal[1, 5, 15]


class SimulatorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the clock. The same options give the same users, readings and record ids, always.

    `redirect_uris` empty means that any http or https address is accepted. `delay_seconds` is how late a reading
    shows up (Dexcom: 3600 in the US, 10800 elsewhere), `days_back` how far before the first start readings reach.
    `access_token_seconds` and `calls_per_hour` are Dexcom's own figures. `replay` names a Clarity CSV export, whose
    local times are read in `zone`; it becomes the readings of one more user, `ReplayUser`, on their own dates.
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
