"""Unpacking of gzip (RFC 1952) with a limit on the unpacked bytes, because 1 MB of gzip can hold 1 GB."""

import zlib

_GZIP = zlib.MAX_WBITS + 16
"""Format for zlib: a gzip header and trailer."""


class UnpackedTooLarge(ValueError):
    """The unpacked content exceeds its limit."""


class Gunzip:
    """Incremental unpacking of one gzip member. No call holds more than the limit in memory."""

    def __init__(self, max_bytes: int) -> None:
        self._inflate = zlib.decompressobj(_GZIP)
        self._left = max_bytes

    def feed(self, packed: bytes) -> bytes:
        """Unpack the next piece. Raise UnpackedTooLarge beyond the limit, and ValueError if the content is not gzip."""
        try:
            content = self._inflate.decompress(packed, self._left + 1)
        except zlib.error:
            raise ValueError("the content is not gzip") from None
        self._left -= len(content)
        if self._left < 0:
            raise UnpackedTooLarge("the unpacked content is too large")
        if self._inflate.unused_data:
            raise ValueError("there is more after the end of the gzip content")
        return content

    def finish(self) -> None:
        """Raise ValueError if the end of the gzip content is missing."""
        if not self._inflate.eof:
            raise ValueError("the gzip content is incomplete")


def gunzip(packed: bytes, max_bytes: int) -> bytes:
    """Unpack a whole content. Raise the errors of ``Gunzip``."""
    unpacking = Gunzip(max_bytes)
    content = unpacking.feed(packed)
    unpacking.finish()
    return content
