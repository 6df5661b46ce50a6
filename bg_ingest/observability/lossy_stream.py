"""Output that never raises and never blocks for long. Text that cannot be written is dropped and counted."""

import io
import os
import select
import threading
from collections.abc import Callable
from typing import TextIO

STALL_MS = 100
"""Longest wait for a reader, in milliseconds. After one such wait there is none until a write succeeds again."""


class LossyStream(io.TextIOBase):
    """Text stream that drops text instead of raising or blocking; ``on_dropped`` is called for each dropped text.

    Writes fail if the reader of a pipe has ended, a disk is full or a terminal is gone. They block if a reader is
    stopped, which would stop the event loop. After a dropped text, the next one is tried. Nothing is buffered, so that
    no text remains whose flush would fail at the exit of the process.
    """

    def __init__(self, stream: TextIO | None, on_dropped: Callable[[], object] = lambda: None) -> None:
        self._stream = stream
        self._fd = _descriptor(stream)
        self._on_dropped = on_dropped
        self._lock = threading.RLock()  # reentrant: a finalizer may log during a write
        self._stalled = False
        self._cut = False
        """True after a text of which only the beginning was written."""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only at run time, too
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]  # as encoding
        return "backslashreplace"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._fd is not None and os.isatty(self._fd)

    def fileno(self) -> int:
        if self._fd is None:
            raise io.UnsupportedOperation("fileno")
        return self._fd

    def write(self, text: str, /) -> int:
        data = text.encode(self.encoding, self.errors)
        with self._lock:
            try:
                if self._fd is None:
                    self._write_text(text)
                else:
                    self._write_bytes(self._fd, data)
            except (OSError, ValueError):  # ValueError: the stream is closed
                self._on_dropped()
        return len(text)

    def _write_text(self, text: str) -> None:
        if self._stream is None:
            raise OSError("no stream")
        self._stream.write(text)
        self._stream.flush()

    def _write_bytes(self, fd: int, data: bytes) -> None:
        """Write in pieces that a pipe accepts without blocking once it is ready."""
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        data = b"\n" * self._cut + data
        while data:
            self._stalled = not poller.poll(0 if self._stalled else STALL_MS)
            if self._stalled:
                raise TimeoutError("the reader is stopped")
            data = data[os.write(fd, data[: select.PIPE_BUF]) :]
            self._cut = bool(data)


def _descriptor(stream: TextIO | None) -> int | None:
    """Return the file descriptor of a stream; None if the stream is None, closed or in memory."""
    try:
        return stream.fileno() if stream is not None else None
    except (OSError, ValueError):
        return None
