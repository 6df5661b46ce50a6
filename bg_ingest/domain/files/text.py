"""Rows of a text file with separated fields: encoding and separator are recognised by the bytes."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from operator import itemgetter

from bg_ingest.domain.files.contents import FileRefused

_SEPARATORS = (",", ";", "\t")
_LINES_TO_SNIFF = 100
_LINE_END = re.compile(r"\r\n|\n|\r")
_BINARY = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive",
}
_MARKUP = re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)
_UTF_16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def read_rows(content: bytes) -> list[list[str]]:
    """Return the stripped fields of each line; the index plus one is the line number.

    Raise FileRefused for a binary file, a web page or XML. Every line is a row of its own, so that a quote that is
    never closed damages one row and not the rest of the file.
    """
    lines = _LINE_END.split(_decode(content))
    if lines[0].casefold().startswith("sep="):  # a line for spreadsheets
        separator, lines[0] = lines[0][4:5], ""
    else:
        separator = ""
    if separator not in _SEPARATORS:
        separator = _sniff_separator(list(islice(filter(None, lines), _LINES_TO_SNIFF)) or [""])
    return [_split(line, separator) if line else [] for line in lines]


def _decode(content: bytes) -> str:
    """Decode UTF-16 and UTF-8 with and without BOM. A line that is no UTF-8 is read as Windows-1252."""
    kind = next((kind for magic, kind in _BINARY.items() if content.startswith(magic)), None)
    kind = "a web page or XML" if _MARKUP.match(content) else kind
    if kind is None and (encoding := _utf_16(content)):
        return content.decode(encoding, "replace").removeprefix("\ufeff")
    if kind is None and content.count(b"\0") > len(content) / 10:
        kind = "no text"
    if kind is not None:
        raise FileRefused(f"is {kind}: export the readings as CSV.")
    return "\n".join(map(_decode_line, content.removeprefix(b"\xef\xbb\xbf").split(b"\n")))


def _utf_16(content: bytes) -> str | None:
    """Return the UTF-16 codec of the content, or None if it is not UTF-16.

    Without a byte order mark, the positions of NULs among the first bytes show the byte order.
    """
    head = content[:40]
    if head[:2] in _UTF_16:
        return _UTF_16[head[:2]]
    parities = [index % 2 for index, byte in enumerate(head) if byte == 0]
    if len(parities) < len(head) // 2 - 2 or len(set(parities)) != 1:
        return None
    return "utf-16-le" if parities[0] else "utf-16-be"


def _decode_line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def _sniff_separator(lines: Sequence[str]) -> str:
    """Return the most frequent separator of the header (line 1) if it occurs there twice, else that of most lines."""
    first, count = max(((separator, lines[0].count(separator)) for separator in _SEPARATORS), key=itemgetter(1))
    if count > 1:
        return first
    votes = Counter(max(_SEPARATORS, key=line.count) for line in lines)
    return max(_SEPARATORS, key=votes.__getitem__)


def _split(line: str, separator: str) -> list[str]:
    try:
        row = next(csv.reader((line,), delimiter=separator), [])
        if len(row) == 1 and separator in row[0]:  # a spreadsheet quoted the whole line
            row = next(csv.reader((row[0],), delimiter=separator), [])
    except csv.Error:  # a field over 128 KB, or a NUL
        row = line.split(separator)
    return [field.strip() for field in row]
