"""Comparison of stored readings with the provider's, reading by reading."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

import msgspec

from bg_ingest.domain.readings import Reading
from bg_ingest.domain.windows import Window


class DifferenceKind(StrEnum):
    NOT_STORED = "not_stored"
    """Only the provider has the reading."""
    NOT_AT_PROVIDER = "not_at_provider"
    """Only the store has the reading: the provider does not return it any more."""
    OTHER_VALUE = "other_value"
    """Both have the reading, with different values or flags."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    kind: DifferenceKind
    measured_at: datetime
    device: str
    """Generation and display, as in readings."""
    stored_mg_dl: int | None = None
    provider_mg_dl: int | None = None

    def without_values(self) -> "Difference":
        return msgspec.structs.replace(self, stored_mg_dl=None, provider_mg_dl=None)


class Verification(msgspec.Struct, frozen=True):
    """Result of the comparison over one window."""

    window: Window
    """Compared window. It covers only data that polls have read."""
    compared: int
    """Number of distinct readings of both sides."""
    unreadable: int
    """Number of unreadable records of the provider. They are quarantined, not compared."""
    differences: tuple[Difference, ...]

    def counts(self) -> Counter[DifferenceKind]:
        return Counter(difference.kind for difference in self.differences)


def compare_readings(
    window: Window, stored: Iterable[Reading], provided: Iterable[Reading], unreadable: int
) -> Verification:
    """Compare the readings of both sides. Readings outside of the window are ignored."""
    ours = {reading.identity: reading for reading in stored if reading.measured_at in window}
    theirs = {reading.identity: reading for reading in provided if reading.measured_at in window}
    identities = {**ours, **theirs}
    differences = filter(None, (_compare(ours.get(identity), theirs.get(identity)) for identity in identities))
    ordered = sorted(differences, key=lambda difference: (difference.measured_at, difference.device))
    return Verification(window, len(identities), unreadable, tuple(ordered))


def _compare(ours: Reading | None, theirs: Reading | None) -> Difference | None:
    either = ours or theirs
    if either is None or (ours and theirs and ours.same_value(theirs)):
        return None
    kind = (
        DifferenceKind.NOT_STORED
        if ours is None
        else DifferenceKind.NOT_AT_PROVIDER
        if theirs is None
        else DifferenceKind.OTHER_VALUE
    )
    return Difference(
        kind=kind,
        measured_at=either.measured_at,
        device=either.device.public_name,
        stored_mg_dl=ours.glucose_mg_dl if ours else None,
        provider_mg_dl=theirs.glucose_mg_dl if theirs else None,
    )
