"""Content of answers, with a limit on its bytes."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from bg_ingest.domain.unpacking import Gunzip, UnpackedTooLarge

MAX_ANSWER_BYTES = 8 * 1_048_576
"""Largest answer, both as sent and unpacked: more than twice the largest page, 30 days of a 5-minute sensor."""


class AnswerTooLarge(httpx.DecodingError):
    """The answer has more than ``MAX_ANSWER_BYTES``. The rest of it is not received."""


class BoundedBody:
    """Incremental unpacking of the content of one answer. Raises ``httpx.DecodingError``, for both HTTP clients.

    The clients themselves would unpack each received piece as a whole: 64 KB could become 64 MB before the bytes are
    counted.
    """

    def __init__(self, encoding: str) -> None:
        encoding = encoding.strip().lower()
        if encoding not in {"identity", "", "gzip", "x-gzip"}:
            raise httpx.DecodingError("only gzip was requested")
        self._unpacking = Gunzip(MAX_ANSWER_BYTES) if encoding.endswith("gzip") else None
        self._received = 0

    def feed(self, piece: bytes) -> bytes:
        """Return the unpacked form of the next piece."""
        self._received += len(piece)
        if self._received > MAX_ANSWER_BYTES:
            raise AnswerTooLarge("too many bytes")
        if self._unpacking is None:
            return piece
        with _translate_unpacking_errors():
            return self._unpacking.feed(piece)

    def finish(self) -> None:
        """Check that the end was received."""
        if self._unpacking and self._received:
            with _translate_unpacking_errors():
                self._unpacking.finish()


@contextmanager
def _translate_unpacking_errors() -> Iterator[None]:
    try:
        yield
    except UnpackedTooLarge:
        raise AnswerTooLarge("too many unpacked bytes") from None
    except ValueError:
        raise httpx.DecodingError("no gzip") from None
