"""Whether this machine lets the service do what it does at its busiest."""

import resource
import shutil
from pathlib import Path

from bg_ingest.doctor.finding import Finding, failed, ok, warning

MIN_FREE_BYTES = 1 << 30
"""Bytes free for the SQLite file: 10,000 people's month."""


def check_machine(needed: int, data_dir: Path | None) -> list[Finding]:
    """Look at the limit of open files, of which the server takes so many, and at the disk where something is kept."""
    return [_files(needed), *([_space(data_dir)] if data_dir else [])]


def _files(needed: int) -> Finding:
    """Look at the hard limit: the server raises its own to that."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or files >= needed:
        return ok("limits", "as many open files as it takes")
    return warning(
        "limits", f"{files} open files allowed", f"raise it to {needed}: ulimit -n, or the container's nofile"
    )


def _space(folder: Path) -> Finding:
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return failed("disk", f"{existing} cannot be looked at ({error.strerror})", "choose another DATA_DIR")
    found = f"{free / 1e9:.1f} GB free for {folder}"
    return (
        ok("disk", found)
        if free >= MIN_FREE_BYTES
        else warning("disk", found, "make room: a full disk stops the service")
    )
