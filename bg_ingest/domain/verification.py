"""Comparing what we have with what the provider has, reading by reading."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

import msgspec

from bg_ingest.domain.readings import Reading
from bg_ingest.domain.windows import Window


class DifferenceKind(StrEnum):
    """How the two can differ."""

    NOT_STORED = "not_stored"
    """The provider has it, we have not."""
    NOT_AT_PROVIDER = "not_at_provider"
    """We have it, the provider shows it no more."""
    OTHER_VALUE = "other_value"
    """Both have it, with another value or flag."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One reading on which the two do not agree."""

    kind: DifferenceKind
    measured_at: datetime
    device: str
    """Generation and display, as readings show it."""
    stored_mg_dl: int | None = None
    provider_mg_dl: int | None = None

    def without_values(self) -> "Difference":
        return msgspec.structs.replace(self, stored_mg_dl=None, provider_mg_dl=None)


class Verification(msgspec.Struct, frozen=True):
    """What came of comparing one window."""

    window: Window
    """What was compared: nothing that no poll has read yet."""
    compared: int
    """Readings that either side has."""
    unreadable: int
    """The provider's records there that are no readings; they are set aside, not compared."""
    differences: tuple[Difference, ...]

    def counts(self) -> Counter[DifferenceKind]:
        return Counter(each.kind for each in self.differences)


def compare_readings(
    window: Window, stored: Iterable[Reading], provided: Iterable[Reading], unreadable: int
) -> Verification:
    """Compare both sides' readings; what lies outside of the window does not count."""
    ours = {each.identity: each for each in stored if each.measured_at in window}
    theirs = {each.identity: each for each in provided if each.measured_at in window}
    differences = [
        difference
        for identity in {**ours, **theirs}
        if (difference := _compare(ours.get(identity), theirs.get(identity)))
    ]
    ordered = sorted(differences, key=lambda each: (each.measured_at, each.device))
    return Verification(window, len({**ours, **theirs}), unreadable, tuple(ordered))


def _compare(ours: Reading | None, theirs: Reading | None) -> Difference | None:
    one = ours or theirs
    if one is None or (ours and theirs and ours.same_value(theirs)):
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
        measured_at=one.measured_at,
        device=f"{one.device.generation}/{one.device.display}",
        stored_mg_dl=ours.glucose_mg_dl if ours else None,
        provider_mg_dl=theirs.glucose_mg_dl if theirs else None,
    )
