"""Page of Dexcom's readings, built record by record."""

from typing import NamedTuple

import msgspec

from bg_ingest.domain.readings import Identity, Reading, Unreadable
from bg_ingest.ports import Page


class Candidate(NamedTuple):
    """Reading of one record; it is in the page unless another record of the same identity supersedes it."""

    reading: Reading
    record_id: str
    raw: msgspec.Raw

    def supersedes(self, other: "Candidate") -> bool:
        """Return True if the record id is larger, or if the ids are equal and the raw bytes are larger.

        The order of the records in a page therefore has no effect.
        """
        return (self.record_id, bytes(self.raw)) > (other.record_id, bytes(other.raw))


class PageBuilder:
    """Builds a page with one reading per identity, in ascending order."""

    def __init__(self, provider_account: str) -> None:
        self._provider_account = provider_account
        self._best: dict[Identity, Candidate] = {}
        self._unreadable: list[Unreadable] = []

    def add(self, record: Candidate | Unreadable) -> None:
        if isinstance(record, Unreadable):
            self._unreadable.append(record)
            return
        identity = record.reading.identity
        other = self._best.setdefault(identity, record)
        if record is not other and record.supersedes(other):
            self._best[identity] = record

    def build(self) -> Page:
        readings = sorted(
            (candidate.reading for candidate in self._best.values()),
            key=lambda reading: (reading.measured_at, reading.device.display, reading.device.transmitter or ""),
        )
        return Page(self._provider_account, tuple(readings), tuple(self._unreadable))
