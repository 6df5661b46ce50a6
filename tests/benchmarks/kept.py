"""Figures in a file, for programs: with when and on what they were measured."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from bg_ingest.adapters.clock import SystemClock

MATTER = ("aioboto3", "botocore", "granian", "litestar", "msgspec")
"""Packages whose versions make a difference."""


def keep(file: Path, benchmark: str, runs: int, figures: Any) -> None:
    """Write the figures of a benchmark; its medians are of so many runs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    told = {
        "benchmark": benchmark,
        "at": SystemClock().now().replace(microsecond=0),
        "runs": runs,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: version(name) for name in MATTER},
        "figures": figures,
    }
    file.write_bytes(msgspec.json.format(msgspec.json.encode(told)) + b"\n")
