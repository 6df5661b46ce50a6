"""Conditions of writes, as DynamoDB evaluates them."""

import pytest

from bg_ingest.ports.table import (
    Absent,
    AtMost,
    Condition,
    Either,
    Equals,
    Exists,
    Item,
    Missing,
    OneOf,
    check_conditions,
)

STORED: Item = {"v": 1, "text": "t", "yes": True}


@pytest.mark.parametrize(
    ("condition", "with_item", "without"),
    [
        (Absent(), False, True),
        (Exists(), True, False),
        (Missing("text"), False, True),
        (Missing("other"), True, True),
        (Equals("text", "t"), True, False),
        (Equals("yes", 1), False, False),
        (Equals("v", True), False, False),
        (AtMost("v", 1), True, False),
        (AtMost("v", 0), False, False),
        (AtMost("text", 9), False, False),
        (OneOf("text", ("s", "t")), True, False),
        (OneOf("text", ()), False, False),
        (Either((Absent(), Equals("v", 1))), True, True),
        (Either(()), False, False),
    ],
    ids=repr,
)
def test_a_condition_holds_as_in_dynamodb(condition: Condition, *, with_item: bool, without: bool) -> None:
    assert check_conditions([condition], STORED) is with_item
    assert check_conditions([condition], None) is without


def test_all_conditions_must_hold() -> None:
    assert check_conditions([], None)
    assert check_conditions([Exists(), Equals("v", 1)], STORED)
    assert not check_conditions([Exists(), Equals("v", 2)], STORED)
