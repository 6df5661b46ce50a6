"""Check of this machine's limits against the needs of a busy service."""

import resource
import shutil
from pathlib import Path

from bg_ingest.doctor.finding import Finding, failed, ok, warning

MIN_FREE_BYTES = 1 << 30
"""Free space for the SQLite file: a month of 10,000 users."""


def check_machine(needed: int, data_dir: Path | None) -> list[Finding]:
    """Compare the limit of open files with the needed number, and check free space if ``data_dir`` holds data."""
    return [_files(needed), *([_space(data_dir)] if data_dir else [])]


def _files(needed: int) -> Finding:
    """Check the hard limit, because the server raises its own limit to that."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or files >= needed:
        return ok("limits", "enough open files")
    return warning(
        "limits", f"{files} open files allowed", f"raise it to {needed}: ulimit -n, or the container's nofile"
    )


def _space(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return failed("disk", f"{existing} cannot be checked ({error.strerror})", "choose another DATA_DIR")
    state = f"{free / 1e9:.1f} GB free for {folder}"
    return (
        ok("disk", state)
        if free >= MIN_FREE_BYTES
        else warning("disk", state, "make room: a full disk stops the service")
    )
