"""Evaluation of conditions, as DynamoDB evaluates them."""

from collections.abc import Iterable

from bg_ingest.ports.table import Absent, AtMost, Condition, Either, Equals, Exists, Item, Missing, OneOf, Scalar


def check_conditions(conditions: Iterable[Condition], item: Item | None) -> bool:
    return all(_check_condition(condition, item) for condition in conditions)


def _check_condition(condition: Condition, item: Item | None) -> bool:
    match condition:
        case Absent():
            return item is None
        case Exists():
            return item is not None
        case Missing(attribute):
            return item is None or attribute not in item
        case Either(conditions):
            return any(_check_condition(alternative, item) for alternative in conditions)
        case _:
            return _check_value(condition, (item or {}).get(condition.attribute))


def _check_value(condition: Equals | AtMost | OneOf, stored: Scalar | None) -> bool:
    match condition:
        case Equals(_, value):
            return _is_same(stored, value)
        case OneOf(_, values):
            return any(_is_same(stored, value) for value in values)
        case AtMost(_, value):
            return isinstance(stored, int) and stored <= value


def _is_same(stored: Scalar | None, value: Scalar) -> bool:
    """Compare type and value: true is not 1."""
    return type(stored) is type(value) and stored == value
