"""Whether this machine lets the service do what it does at its busiest."""

import resource
import shutil
from pathlib import Path

from bg_ingest.checkup.finding import Finding, failed, ok, warning

FILES = 2048
"""Open at once: granian's 1,024 connections, 256 to providers, 64 to the store, and the rest."""

SPACE = 1 << 30
"""Bytes free for the SQLite file: 10,000 people's month."""


def check_machine(data_dir: Path | None) -> list[Finding]:
    """Look at the limit of open files, and at the disk where something is kept on it."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = files != resource.RLIM_INFINITY and files < FILES
    advice = f"raise it to {FILES}: ulimit -n, or the container's nofile"
    findings = [
        warning("limits", f"{files} open files allowed", advice) if few else ok("limits", f"{files} open files")
    ]
    return findings + ([_space(data_dir)] if data_dir else [])


def _space(folder: Path) -> Finding:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return failed("disk", f"{there} cannot be looked at ({error.strerror})", "choose another DATA_DIR")
    found = f"{free / 1e9:.1f} GB free for {folder}"
    return ok("disk", found) if free >= SPACE else warning("disk", found, "make room: a full disk stops the service")
