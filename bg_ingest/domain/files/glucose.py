"""Parser of glucose values in files: numbers with decimal point or comma, and words for LOW and HIGH."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal, TypeAlias

from bg_ingest.domain.readings import (
    MAX_DISPLAYED_MG_DL,
    MG_DL_PER_MMOL_L,
    MIN_DISPLAYED_MG_DL,
    AsSent,
    Flag,
    clamp_to_range,
)

GlucoseUnit: TypeAlias = Literal["mg/dL", "mmol/L"]

MAX_MG_DL = 1000
"""Highest value of any sensor, according to Tidepool."""

_NUMBER = re.compile(r"\d{1,4}(?:[.,]\d{1,9})?", re.ASCII)
_UNIT = re.compile(r"(mg/dl|mmol/l)(?!\s*/)", re.IGNORECASE)
_LOW = "low lo niedrig tief basso bajo baixo bas laag lav lavt lag lagt matala niski nizka nizko nizky alacsony dusuk"
_HIGH = "high hi hoch alto haut eleve hoog hoj hojt hog hogt korkea wysoki vysoka visoko vysoky magas yuksek"
_SIDES = {
    **dict.fromkeys(_LOW.split(), (MIN_DISPLAYED_MG_DL - 1, Flag.LOW)),
    **dict.fromkeys(_HIGH.split(), (MAX_DISPLAYED_MG_DL + 1, Flag.HIGH)),
}
"""Words without accents. An unknown word is never guessed."""


def unit_of(header: str) -> GlucoseUnit | None:
    """Return the unit in the header of a column; None without one, and for a rate per minute."""
    match = _UNIT.search(header)
    return None if match is None else "mg/dL" if match[1].lower() == "mg/dl" else "mmol/L"


def decide_unit(written: GlucoseUnit | None, values: Iterable[str]) -> GlucoseUnit | None:
    """Return the unit of the header; without one, the unit that all values fit.

    Displays show 40 or more in mg/dL, and less than 40 in mmol/L. None if all values contradict the header, or if there
    is no header and values of both kinds occur.
    """
    are_small = {number < MIN_DISPLAYED_MG_DL for value in values if (number := _parse_number(value)) is not None}
    if written is None:
        return None if len(are_small) == 2 else "mmol/L" if True in are_small else "mg/dL"
    return None if are_small == {written == "mg/dL"} else written


def parse_glucose(text: str, unit: GlucoseUnit) -> tuple[int, Flag, AsSent | None] | None:
    """Return mg/dL, flag and the value as written if it differs; None for an unknown word or an impossible value."""
    if side := _SIDES.get(_plain(text)):
        return (*side, None)
    number = _parse_number(text)
    mg_dl = None if number is None else number * (1 if unit == "mg/dL" else MG_DL_PER_MMOL_L)
    if number is None or mg_dl is None or not 0 < mg_dl <= MAX_MG_DL:
        return None
    value, flag = clamp_to_range(mg_dl)
    return value, flag, None if unit == "mg/dL" and number == value else AsSent(number, unit)


def _parse_number(text: str) -> float | None:
    return float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else None


def _plain(word: str) -> str:
    """Return the word in lower case, without accents and spaces."""
    parts = unicodedata.normalize("NFKD", word.casefold().replace("ø", "o"))
    return "".join(part for part in parts if part.isalpha())
