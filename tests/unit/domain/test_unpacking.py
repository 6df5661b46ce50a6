"""Unpacking of gzip stays within its limit in time and memory."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.unpacking import Gunzip, UnpackedTooLarge, gunzip

LIMIT = 10_000


@given(st.binary(max_size=2_000), st.integers(1, 50))
def test_pieces_of_any_size_give_the_content(content: bytes, size: int) -> None:
    packed, unpacking = gzip.compress(content), Gunzip(LIMIT)
    pieces = [packed[start : start + size] for start in range(0, len(packed), size)]
    assert b"".join(map(unpacking.feed, pieces)) == content
    unpacking.finish()


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_s3_the_limit_is_exact(size: int) -> None:
    packed = gzip.compress(bytes(size))
    if size <= LIMIT:
        assert gunzip(packed, LIMIT) == bytes(size)
    else:
        with pytest.raises(UnpackedTooLarge):
            gunzip(packed, LIMIT)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"no gzip",
        zlib.compress(b"another format"),
        gzip.compress(b"cut off", mtime=0)[:-5],
        gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0),
        gzip.compress(b"one", mtime=0) + b"\0",
    ],
)
def test_whatever_is_no_single_gzip_member_is_an_error(packed: bytes) -> None:
    with pytest.raises(ValueError, match="gzip"):
        gunzip(packed, LIMIT)
