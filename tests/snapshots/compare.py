"""Comparison of a value with its stored snapshot; ``UPDATE_SNAPSHOTS=1`` rewrites the stored files.

The files hold public names only: stored keys and attributes, settings, routes, JSON fields, labels, options.
"""

import json
import os
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


def assert_snapshot(name: str, value: Any) -> None:
    """Compare a JSON value with ``data/<name>.json``."""
    path = DATA / f"{name}.json"
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):  # noqa: TID251 - not a setting of the service
        DATA.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    stored = json.loads(path.read_text("utf-8"))
    assert json.loads(text) == stored, f"{path.name}: set UPDATE_SNAPSHOTS=1 to accept the difference"


def shape(value: Any) -> Any:
    """Reduce a JSON value to its keys and the types of its leaves; items of a list are merged into one."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [merged(shape(item) for item in value)]
    return "null" if value is None else type(value).__name__


def merged(shapes: Any) -> Any:
    """Merge shapes: fields of objects are united, differing types of a leaf are joined by ``|``."""
    objects: dict[str, list[Any]] = {}
    lists: list[Any] = []
    words: set[str] = set()
    for one in shapes:
        if isinstance(one, dict):
            for key, item in one.items():
                objects.setdefault(key, []).append(item)
        elif isinstance(one, list):
            lists += one
        else:
            words.update(one.split("|"))
    parts: list[Any] = []
    if objects:
        parts.append({key: merged(items) for key, items in objects.items()})
    if lists:
        parts.append([merged(lists)])
    if words - {""}:
        parts.append("|".join(sorted(words - {""})))
    return parts[0] if len(parts) == 1 else parts or ""
