"""Pages as Dexcom sends them, with faults that JSON, a gateway or a programmer of the provider may cause."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.harness.dexcom_answers import GOLDEN, USER
from tests.harness.webhook_sender import record

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PAGES = [json.loads(path.read_text()) for path in sorted(GOLDEN.glob("egvs-*.json"))]
ODD: list[Any] = [
    *(None, True, False, 0, -1, 39, 40, 41, 110, 400, 401, 999.5, 1001, 7.8, 142.0, 1e308, -0.0, 2**63, 2**70, 10**40),
    *(float("nan"), float("inf"), "", " ", "LOW", "High", "NaN", "null", "110", "mg/dL", " MMOL/L ", "mmol/L", "mg"),
    *("2025-12-31T23:00:00Z", "2025-12-31T23:00", "2025-12-31 23:00:00.123456789", "2025-12-31T16:00:00-06:59:58"),
    *("2026-01-01T12:20:00Z", "2009-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2025-02-30"),
    *("\x00", "\ud800", "g6 pro", "g8", USER, "x" * 3000, "\N{ARABIC-INDIC DIGIT ONE}", [], {}, [[]], {"": {}}),
]
"""Values of a wrong type or form that replace a field."""

HTML = b"<!doctype html><html><body>503 Service Temporarily Unavailable</body></html>"

Change = Callable[[Random, Any], None]


def random_value(random: Random) -> dict[str, Any]:
    """Return a golden page, or one of the last hours with some records already stored and some with other values."""
    if random.random() < 0.3:
        return json.loads(json.dumps(random.choice(PAGES)))  # type: ignore[no-any-return]
    first = NOW - timedelta(minutes=5 * random.randint(0, 60))
    records = [
        record(
            first + number * timedelta(minutes=5),
            random.choice((100 + number, 100 + number, random.randint(30, 420))),
            recordId=str(random.getrandbits(32)),
            displayDevice=random.choice(("iOS", "iOS", "receiver")),
        )
        for number in range(random.randint(0, 12))
    ]
    return {"recordType": "egv", "recordVersion": "3.0", "userId": USER, "records": records}


def random_slot(node: Any, random: Random) -> tuple[Any, Any]:
    """Return a list or object somewhere in a page and one of its keys; all depths are equally likely."""
    found: list[tuple[Any, Any]] = []
    waiting = [node]
    while waiting:
        each = waiting.pop()
        keys = list(each) if isinstance(each, dict) else range(len(each)) if isinstance(each, list) else ()
        found += [(each, key) for key in keys]
        waiting += [each[key] for key in keys]
    return random.choice(found) if found else (None, None)


def _records(page: dict[str, Any]) -> list[Any]:
    found = page.get("records")
    return found if isinstance(found, list) else []


def replace(random: Random, page: Any) -> None:
    container, key = random_slot(page, random)
    if container is not None:
        container[key] = json.loads(json.dumps(random.choice(ODD)))


def remove(random: Random, page: Any) -> None:
    container, key = random_slot(page, random)
    if container is not None:
        del container[key]


def swap(random: Random, page: Any) -> None:
    (one, here), (other, there) = random_slot(page, random), random_slot(page, random)
    if one is not None and other is not None and not isinstance(one[here], list | dict):
        one[here], other[there] = other[there], one[here]


def rename(random: Random, page: Any) -> None:
    container, key = random_slot(page, random)
    if isinstance(container, dict):
        container[random.choice((key.upper(), key + " ", "", "note"))] = container.pop(key)


def repeat(random: Random, page: Any) -> None:
    records = _records(page)
    if records:
        again = json.loads(json.dumps(random.choice(records)))
        records.insert(random.randint(0, len(records)), again)


def shuffle(random: Random, page: Any) -> None:
    random.shuffle(_records(page))


def nudge(random: Random, page: Any) -> None:
    """Change one field of one record as a provider might: the mutation most likely to find a fault."""
    records = [each for each in _records(page) if isinstance(each, dict)]
    if records:
        field = random.choice(("systemTime", "value", "unit", "status", "transmitterId", "displayDevice", "recordId"))
        random.choice(records)[field] = json.loads(json.dumps(random.choice(ODD)))


def cut(random: Random, body: bytes) -> bytes:
    return body[: random.randint(0, len(body))]


def scratch(random: Random, body: bytes) -> bytes:
    index = random.randrange(len(body)) if body else 0
    return body[:index] + bytes([random.randrange(256)]) + body[index + random.randint(0, 2) :]


def double_key(random: Random, body: bytes) -> bytes:
    field = random.choice((b"value", b"systemTime", b"unit", b"userId", b"records"))
    return body.replace(
        b'"' + field + b'":', b'"' + field + b'": ' + random.choice((b"null", b"5", b'""')) + b', "' + field + b'":', 1
    )


def nest_deeply(random: Random, body: bytes) -> bytes:
    depth = random.choice((10, 1_000, 20_000))
    return body.replace(b"null", b"[" * depth + b"]" * depth, 1) if b"null" in body else b"[" * depth + body


TREE: tuple[Change, ...] = (replace, replace, nudge, nudge, nudge, remove, swap, rename, repeat, shuffle)
TEXT: tuple[Callable[[Random, bytes], bytes], ...] = (cut, scratch, scratch, double_key, nest_deeply)


def mutate(random: Random) -> bytes:
    """Return a page's body, changed a few times: mostly in its structure, sometimes in its bytes."""
    page = random_value(random)
    for _ in range(random.choice((0, 1, 1, 2, 3, 8))):
        if isinstance(page, dict):
            random.choice(TREE)(random, page)
    body = json.dumps(page).encode()
    if random.random() < 0.15:
        body = random.choice(TEXT)(random, body)
    if random.random() < 0.01:
        body = random.choice((HTML, b"", b"\xef\xbb\xbf" + body, b"null", b"NaN", body + body))
    return body
