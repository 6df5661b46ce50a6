"""Result of reading a file: its readings, and every row that is left out with its line and reason."""

from typing import Literal, TypeAlias

import msgspec

from bg_ingest.domain.readings import Reading

RowReason: TypeAlias = Literal["not_a_record", "no_time", "bad_time", "ancient", "no_value", "bad_value", "repeated"]
"""Reason to leave a row out, named as in the quarantine. ``repeated``: an earlier row has the same time and device."""


class FileRefused(Exception):
    """No row of the file can be read. The text is the rest of a sentence that begins with the file's name."""


class RowLeftOut(msgspec.Struct, frozen=True):
    line: int
    """Number of the line in the file; 1 is the first."""
    reason: RowReason


class ReadingFile(msgspec.Struct, frozen=True):
    """Contents of a file. Readings ascend by time, then by display device. Names and birth dates are not kept."""

    readings: tuple[Reading, ...]
    left_out: tuple[RowLeftOut, ...] = ()
    """Ascends by line."""
    ignored: int = 0
    """Rows that hold no glucose of a sensor: names, alerts, insulin, calibrations."""
    uncertain: int = 0
    """Readings in the hour that a clock change repeats, if the file does not show which of the two passes is meant.

    Their times are read as times of the first pass.
    """
