"""Streams that cannot be written: the text is dropped and counted, and the next text is tried again."""

import fcntl
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TextIO

import pytest

from bg_ingest.observability.lossy_stream import LossyStream

Cleanup = ExitStack


class Drops:
    """Counter of dropped texts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def cleanup() -> Iterator[Cleanup]:
    with ExitStack() as stack:
        yield stack


def text_stream(descriptor: int, encoding: str = "utf-8") -> TextIO:
    return os.fdopen(descriptor, "w", closefd=False, encoding=encoding)


def small_pipe(cleanup: Cleanup) -> tuple[int, int]:
    """Return a pipe that holds 4,096 bytes, the reader first."""
    reader, writer = os.pipe()
    for descriptor in (reader, writer):
        cleanup.callback(os.close, descriptor)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    return reader, writer


def pipe_without_reader(cleanup: Cleanup) -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    cleanup.callback(os.close, writer)
    return text_stream(writer)


def full_disk(cleanup: Cleanup) -> TextIO:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    cleanup.callback(os.close, descriptor)
    return text_stream(descriptor)


def closed_terminal(cleanup: Cleanup) -> TextIO:
    near, far = os.openpty()
    os.close(near)
    cleanup.callback(os.close, far)
    return text_stream(far)


def closed_stream(_: Cleanup) -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream


def no_stream(_: Cleanup) -> None:
    return None


@pytest.mark.parametrize("open_stream", [pipe_without_reader, full_disk, closed_terminal, closed_stream, no_stream])
def test_f1_text_that_cannot_be_written_is_dropped_and_counted(
    open_stream: Callable[[Cleanup], TextIO | None], cleanup: Cleanup
) -> None:
    drops = Drops()
    stream = LossyStream(open_stream(cleanup), drops)
    for _ in range(3):
        print("a line", file=stream, flush=True)
    assert drops.count >= 3


def test_f1_a_stopped_reader_delays_no_more_than_one_line_and_the_rest_is_written_later(cleanup: Cleanup) -> None:
    reader, writer = small_pipe(cleanup)
    drops = Drops()
    stream = LossyStream(text_stream(writer), drops)
    started_at = time.monotonic()
    for _ in range(50):
        stream.write("x" * 999 + "\n")
    assert time.monotonic() - started_at < 1
    assert drops.count >= 45
    os.read(reader, 4096)
    stream.write("again\n")
    assert os.read(reader, 4096).splitlines()[-1] == b"again"


def test_f1_a_line_after_a_cut_one_begins_anew(cleanup: Cleanup) -> None:
    reader, writer = small_pipe(cleanup)
    drops = Drops()
    stream = LossyStream(text_stream(writer), drops)
    stream.write("x" * 9000 + "\n")
    assert drops.count == 1
    os.read(reader, 4096)
    stream.write("whole\n")
    assert os.read(reader, 4096) == b"\nwhole\n"


def test_text_goes_through_unchanged_and_unknown_characters_are_escaped(cleanup: Cleanup) -> None:
    reader, writer = small_pipe(cleanup)
    stream = LossyStream(text_stream(writer, "ascii"))
    assert stream.write("a \u00e9 \ud83d\n") == 6
    assert os.read(reader, 4096) == b"a \\xe9 \\ud83d\n"
    assert stream.fileno() == writer
    assert stream.writable()
    assert not stream.isatty()


def test_a_stream_in_memory_is_written_too() -> None:
    memory = io.StringIO()
    assert LossyStream(memory).write("a line") == 6
    assert memory.getvalue() == "a line"
    with pytest.raises(io.UnsupportedOperation):
        LossyStream(memory).fileno()
