"""One process at a time per file, by a lock that the system takes back when the process dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bg_ingest.errors import StoreLocked


@contextmanager
def lock_file(file: Path) -> Iterator[None]:
    """Hold ``<file>.lock``; StoreTaken when somebody else does.

    The lock file stays when we leave: deleting it would let two processes lock two files of one name.
    """
    descriptor = os.open(file.with_name(file.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreLocked(f"{file} is in use by another process: SQLite serves one, several need DynamoDB.") from None
    try:
        yield
    finally:
        os.close(descriptor)
