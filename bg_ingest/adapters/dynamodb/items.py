"""Items on the wire: DynamoDB's JSON, in which numbers are texts, and bytes base64 once they are encoded."""

from binascii import a2b_base64
from typing import Any, TypeAlias

from bg_ingest.adapters.table.protocol import Item, Key, Scalar

Wire: TypeAlias = dict[str, dict[str, Any]]
"""Attributes by name, each ``{type: value}``."""


def wire_value(value: Scalar) -> dict[str, Any]:
    match value:
        case str():
            return {"S": value}
        case bool():  # before int, which it is too
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case bytes():
            return {"B": value}


def wire_key(key: Key) -> Wire:
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}


def wire_item(key: Key, item: Item) -> Wire:
    return {name: wire_value(value) for name, value in item.items()} | wire_key(key)


def item_of(wire: Wire) -> tuple[Key, Item]:
    item = {name: _scalar(typed) for name, typed in wire.items()}
    return (str(item.pop("pk")), str(item.pop("sk"))), item


def _scalar(typed: dict[str, Any]) -> Scalar:
    ((kind, value),) = typed.items()
    match kind:
        case "N":
            return int(value)
        case "B":
            return a2b_base64(value)
        case _:
            scalar: Scalar = value
            return scalar
