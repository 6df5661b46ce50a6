"""Values of files, their units and words."""

import pytest

from bg_ingest.domain.files.glucose import GlucoseUnit, decide_unit, parse_glucose, unit_of
from bg_ingest.domain.readings import AsSent, Flag


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ("Glucose Value (mg/dL)", "mg/dL"),
        ("Glukosewert (mg/dl)", "mg/dL"),
        ("Historique de la glycémie mmol/l", "mmol/L"),
        ("Glucose Rate of Change (mg/dL/min)", None),
        ("Insulin Value (u)", None),
    ],
)
def test_the_unit_of_a_header(header: str, unit: str | None) -> None:
    assert unit_of(header) == unit


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("104", "mg/dL", (104, Flag.OK, None)),
        ("104,4", "mg/dL", (104, Flag.OK, AsSent(104.4, "mg/dL"))),
        ("5,8", "mmol/L", (104, Flag.OK, AsSent(5.8, "mmol/L"))),
        ("22.2", "mmol/L", (400, Flag.OK, AsSent(22.2, "mmol/L"))),
        ("39", "mg/dL", (39, Flag.LOW, None)),
        ("410", "mg/dL", (401, Flag.HIGH, AsSent(410, "mg/dL"))),
        ("Low", "mmol/L", (39, Flag.LOW, None)),
        *[(text, "mg/dL", None) for text in ("", "0", "-1", "1e2", "1.234,5", "nan", "inf", "lower", "1001", "٤٥")],
        ("56", "mmol/L", None),
    ],
)
def test_a_value_is_read_or_refused(text: str, unit: GlucoseUnit, expected: object) -> None:
    assert parse_glucose(text, unit) == expected


@pytest.mark.parametrize(
    ("written", "values", "unit"),
    [
        (None, [], "mg/dL"),
        (None, ["5.8", "Low"], "mmol/L"),
        (None, ["5.8", "120"], None),
        ("mg/dL", ["Low", "no"], "mg/dL"),
        ("mg/dL", ["5.8"], None),
        ("mg/dL", ["5.8", "120"], "mg/dL"),
        ("mmol/L", ["120"], None),
    ],
)
def test_values_confirm_the_unit(written: GlucoseUnit | None, values: list[str], unit: str | None) -> None:
    assert decide_unit(written, values) == unit
