"""Split of a JSON page into its records where the page as a whole is not JSON.

One broken record, such as a lone surrogate or a trailing comma, makes a page unreadable for a decoder. The end of each
record is found by its brackets. A record with unbalanced brackets ends at the beginning of the next. The time is linear
in the length of the page.
"""

import re
from collections.abc import Iterator
from functools import cached_property

import msgspec

MAX_RECORDS = 50_000
"""Records of one page: five times the largest page. Each costs an object, also if it has one byte."""

MAX_FLAT_RECORD = 2_048
"""Largest record without inner brackets, in bytes: four times the usual size. A longer one is scanned as if it had
inner brackets."""

MAX_SCANNED_RECORD = 65_536
"""Bytes within which the end of a record with inner brackets is searched."""

MAX_SCANNED_PAGE = 131_072
"""Bytes of a page that are scanned bracket by bracket, about 50 ms at most."""

MAX_LATER_BRACKETS = 16
"""Number of closing brackets, counted from the end of a page, that are tried as the end of its records."""

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+'
_FIELD = rb"\s*+" + _STRING + rb'"\s*+:'
_FLAT = re.compile(rb'\{(?:[^{}\[\]"\\]++|' + _STRING + rb'")*+\}(?=\s*+(?:\]|,(?!' + _FIELD + rb")))", re.DOTALL)
_TOKEN = re.compile(_STRING + rb'"?|[{}\[\],]', re.DOTALL)
_BETWEEN_RECORDS = re.compile(rb"\}\s*+,\s*+\{")
_NEXT_FIELD = re.compile(rb"," + _FIELD, re.DOTALL)
_NEXT_RECORD = re.compile(rb",\s*+\{")
_SEPARATORS = re.compile(rb"[\s,]*+")
_OPENING = {b"}": b"{", b"]": b"["}


class Unsplittable(ValueError):
    """The page has no array of the name, an array or record without an end, or too many records."""


def split_records(content: bytes, name: str) -> tuple[bytes, list[bytes]]:
    """Return the page with every array of this name emptied, and the elements of these arrays as sent."""
    opening = re.compile(rb'"' + name.encode() + rb'"\s*+:\s*+\[')
    rest: list[bytes] = []
    records: list[bytes] = []
    page = _Page(content)
    while match := opening.search(content, page.position):
        rest.append(content[page.position : match.end()])
        for record in page.iter_elements(match.end()):
            records.append(record)
            if len(records) > MAX_RECORDS:
                raise Unsplittable("too many records")
    if not rest:
        raise Unsplittable("no records")
    return b"".join((*rest, content[page.position :])), records


class _Page:
    """Page whose arrays are read one after another. ``position`` is the closing bracket of the last one, at first 0.

    All arrays share one limit of bytes to scan, because a page can have an array for every few bytes.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._scan_bytes_left = MAX_SCANNED_PAGE
        self.position = 0

    def iter_elements(self, position: int) -> Iterator[bytes]:
        """Yield the elements of the array whose first element is at the position."""
        self.position = position
        while True:
            match = _SEPARATORS.match(self._content, self.position)
            start = match.end() if match else self.position
            if self._content[start : start + 1] in {b"", b"]"}:
                break
            self.position = self._end(start)
            yield self._content[start : self.position].rstrip()
        if start == len(self._content):
            raise Unsplittable("the end of the records is missing")
        self.position = start

    def _end(self, start: int) -> int:
        flat = _FLAT.match(self._content, start, start + MAX_FLAT_RECORD)
        if flat and _is_one_record(flat[0]):
            return flat.end()
        if self._scan_bytes_left > 0 and (end := self._balanced_end(start)):
            return end
        if following := _NEXT_RECORD.search(self._content, start + 1):
            return following.start()
        if self._last_array_end < start:
            raise Unsplittable("the end of a record is missing")
        return self._content.rfind(b"}", start, self._last_array_end) + 1 or self._last_array_end

    @cached_property
    def _last_array_end(self) -> int:
        """Position of the last ``]`` from which the page continues as valid JSON; -1 if there is none."""
        array_end = len(self._content)
        for _ in range(MAX_LATER_BRACKETS):
            array_end = self._content.rfind(b"]", 0, array_end)
            if array_end < 0 or _is_json(b'{"":[' + self._content[array_end:]):
                return array_end
        return -1

    def _balanced_end(self, start: int) -> int | None:
        """Return the position of the comma or bracket after the element; None if its brackets do not match."""
        open_brackets = bytearray()
        text, end = b"", start
        for token in _TOKEN.finditer(self._content, start, start + MAX_SCANNED_RECORD):
            before, text, end = text, token[0], token.end()
            if not open_brackets and text in b",]":
                field_follows = _NEXT_FIELD.match(self._content, token.start()) and self._content.startswith(
                    b"{", start
                )
                if field_follows or not _is_one_record(self._content[start : token.start()]):
                    break
                self._scan_bytes_left -= end - start
                return token.start()
            if text in b"{[":
                if before == b"," and text == b"{" and open_brackets.endswith(b"{"):  # a closing brace is missing
                    break
                open_brackets += text
            elif text in b"}]":
                if open_brackets[-1:] != _OPENING[text]:
                    break
                open_brackets.pop()
        self._scan_bytes_left -= end - start
        return None


def _is_one_record(content: bytes) -> bool:
    """Return False if the content includes parts of later records.

    This happens if a quotation mark is missing, because each later string then ends where it should begin.
    """
    return _BETWEEN_RECORDS.search(content) is None or _is_json(content)


def _is_json(content: bytes) -> bool:
    try:
        msgspec.json.decode(content, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True
