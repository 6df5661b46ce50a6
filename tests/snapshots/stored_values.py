"""Stored items as JSON: decoded MessagePack, placeholders for random and encrypted values."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from bg_ingest.ports.table import Item, Key

SEALED = b"\xb1\x01"
"""First bytes of encrypted values."""
_RANDOM = (
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"), "<32 hex digits>"),
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])"), "<16 hex digits>"),
    (re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"), "<43 characters>"),
)


class Rendering:
    """Renders items; ``known`` maps random texts and bytes of one run to their placeholders."""

    def __init__(self, known: Mapping[str | bytes, str]) -> None:
        self._known = known

    def items(self, table: Mapping[Key, Item]) -> list[dict[str, Any]]:
        """Return all items, sorted by the parts that are the same in every run."""
        rows = [
            {
                "key": [self._text(part) for part in key],
                "attributes": {name: [type(value).__name__, self._value(value)] for name, value in item.items()},
            }
            for key, item in table.items()
        ]
        return sorted(rows, key=lambda row: msgspec.json.encode(row, order="deterministic"))

    def _value(self, value: Any) -> Any:
        if not isinstance(value, bytes):
            return self._plain(value)
        if value in self._known or value.startswith(SEALED):
            return self._plain(value)
        try:
            return {"msgpack": self._plain(msgspec.msgpack.decode(value))}
        except msgspec.DecodeError:
            return self._plain(value)

    def _plain(self, value: Any) -> Any:
        match value:
            case bytes():
                return "<sealed>" if value.startswith(SEALED) else self._known.get(value, f"hex:{value.hex()}")
            case str():
                return self._text(value)
            case dict():
                return {str(self._plain(name)): self._plain(item) for name, item in value.items()}
            case list() | tuple():
                return [self._plain(item) for item in value]
            case datetime():
                return value.isoformat()
            case _:
                return value

    def _text(self, text: str) -> str:
        for random, placeholder in self._known.items():
            if isinstance(random, str):
                text = text.replace(random, placeholder)
        for pattern, placeholder in _RANDOM:
            text = pattern.sub(placeholder, text)
        return text
