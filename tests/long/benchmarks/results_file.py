"""Figures in a machine-readable file, with the time and the environment of their measurement."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from bg_ingest.adapters.clock import SystemClock

REPORTED_PACKAGES = ("aioboto3", "botocore", "granian", "litestar", "msgspec")
"""Packages with an influence on the figures; their versions are recorded."""


def write_results(file: Path, benchmark: str, runs: int, figures: Any) -> None:
    """Write the figures of a benchmark; ``runs`` is the number of runs behind its medians."""
    file.parent.mkdir(parents=True, exist_ok=True)
    results = {
        "benchmark": benchmark,
        "at": SystemClock().now().replace(microsecond=0),
        "runs": runs,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: version(name) for name in REPORTED_PACKAGES},
        "figures": figures,
    }
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
