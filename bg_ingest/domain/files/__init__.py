"""Parsers of files of readings that people download.

A parser finds columns by units, by the forms of values, by positions, and by header words of several languages.

Each file format has a module that returns a ``ReadingFile``. It is pure: its input is the bytes and a time zone.
"""

from bg_ingest.domain.files.clarity import read_clarity
from bg_ingest.domain.files.contents import FileRefused, ReadingFile, RowLeftOut, RowReason

__all__ = ["FileRefused", "ReadingFile", "RowLeftOut", "RowReason", "read_clarity"]
