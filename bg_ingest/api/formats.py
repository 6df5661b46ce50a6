"""Streamed lists as text (JSON, CSV, newline-delimited JSON), and the media types of the columnar forms."""

import csv
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from io import StringIO
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from litestar import Request

from bg_ingest.api.headers import request_header
from bg_ingest.api.problems import build_problem
from bg_ingest.domain.point_columns import PointColumns
from bg_ingest.ports import ColumnarForm

CHUNK_BYTES = 65_536
"""Minimum size of a send. Several stored segments share one send, and the buffer of a connection stays small."""

_json = msgspec.json.Encoder()


class Format(msgspec.Struct, frozen=True):
    """Encoding of rows as bytes that can be concatenated."""

    media_type: str
    opening: bytes
    encode: Callable[[Sequence[Any]], bytes]
    separator: bytes = b""
    closing: bytes = b""


class ColumnarFormat(msgspec.Struct, frozen=True):
    """Encoding by the `ColumnarEncoder`."""

    media_type: str
    form: ColumnarForm


Batch = TypeVar("Batch")
AnyFormat = TypeVar("AnyFormat", bound=Format | ColumnarFormat)

PARQUET = ColumnarFormat("application/vnd.apache.parquet", ColumnarForm.PARQUET)
ARROW = ColumnarFormat("application/vnd.apache.arrow.stream", ColumnarForm.ARROW)

JSON = Format("application/json", b"[", lambda rows: _json.encode(rows)[1:-1], b",", b"]")
NDJSON = Format("application/x-ndjson", b"", _json.encode_lines)


MAX_RANGES = 64
"""Ranges of an Accept header; browsers send 8. Without a limit, a header of 64 KiB would take 60 ms."""


_FORMULA_START = re.compile(r"(?:\A|(?<=[,;\t\r\n\"']))(?=\s*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")
"""Each position in a text from which a spreadsheet may read a formula (OWASP, CSV injection): the start of the text,
and after each character that separates cells in a spreadsheet. Matches are empty, because a separator can follow
another: ``;<tab>=1`` has two positions, and a match that included the tab would skip the one after it."""


def _escape_formulas(cell: Any) -> Any:  # noqa: ANN401 - any builtin
    return _FORMULA_START.sub("'", cell) if isinstance(cell, str) else cell


def csv_format(columns: tuple[str, ...]) -> Format:
    """Return CSV of structs by RFC 4180 with a header row; null is an empty cell."""
    cells = attrgetter(*columns)
    return Format(*csv_head(columns), lambda rows: _encode_cells([cells(row) for row in rows]))


def cells_format(columns: Sequence[str]) -> Format:
    """Return the same CSV as `csv_format`, for rows that are sequences of cells."""
    return Format(*csv_head(columns), _encode_cells)


def csv_head(columns: Sequence[str]) -> tuple[str, bytes]:
    """Return media type and header row of CSV."""
    return "text/csv; header=present", ",".join(columns).encode() + b"\r\n"


def _encode_cells(rows: Sequence[Sequence[Any]]) -> bytes:
    """Encode rows. An apostrophe precedes each formula in a text; numbers, also negative ones, stay as they are."""
    text = StringIO()
    csv.writer(text).writerows([[_escape_formulas(cell) for cell in row] for row in msgspec.to_builtins(rows)])
    return text.getvalue().encode()


def choose_format(request: Request[Any, Any, Any], formats: Sequence[AnyFormat]) -> AnyFormat:
    """Return the format that the caller accepts; 406 if there is none."""
    chosen = negotiate(request_header(request.scope, b"accept") or "*/*", formats)
    if chosen is None:
        available = ", ".join(form.media_type.partition(";")[0] for form in formats)
        raise build_problem(406, "not-acceptable", f"This route answers {available}: accept one of these.")
    return chosen


def negotiate(accept: str, formats: Sequence[AnyFormat]) -> AnyFormat | None:
    """Choose by an Accept header: the highest quality, then the most specific range, then the order of ``formats``.

    Only the first ``MAX_RANGES`` ranges count.
    """
    accepted_ranges = list(map(_parse_range, accept.split(",", MAX_RANGES)[:MAX_RANGES]))

    def quality(form: AnyFormat) -> tuple[float, int]:
        media_type = form.media_type.partition(";")[0]
        ranges = ("*/*", media_type.partition("/")[0] + "/*", media_type)
        matching = [(ranges.index(media_range), q) for media_range, q in accepted_ranges if media_range in ranges]
        specificity, q = max(matching, default=(0, 0.0))
        return q, specificity

    best = max(formats, key=quality)
    return best if quality(best)[0] > 0 else None


def _parse_range(part: str) -> tuple[str, float]:
    media_type, *parameters = (word.strip().lower() for word in part.split(";"))
    quality = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
    try:
        return media_type, float(quality)
    except ValueError:
        return media_type, 1.0


async def encode_stream(
    batches: AsyncGenerator[Batch], present: Callable[[Batch], Sequence[Any]], form: Format
) -> AsyncGenerator[bytes]:
    """Yield the whole answer. After an error of a batch, `StreamBody` closes the connection before the end."""

    def encode(rows: Batch) -> bytes:
        return form.encode(present(rows))

    encoding = present, form
    pieces, size = [form.opening], 0
    separator = b""
    async with aclosing(batches):
        async for rows in batches:
            text = rows.encode(encoding, partial(encode, rows)) if isinstance(rows, PointColumns) else encode(rows)
            pieces += (separator, text)
            size += len(text)
            separator = form.separator
            if size >= CHUNK_BYTES:
                yield b"".join(pieces)
                pieces, size = [], 0
    yield b"".join([*pieces, form.closing])
