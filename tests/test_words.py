"""One word for one thing: the names this project defines use the glossary's words, not their rivals."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

MODULES = [
    ROOT / "app.py",
    *(path for folder in ("bg_ingest", "workers") for path in sorted((ROOT / folder).rglob("*.py"))),
]

SAY_INSTEAD = {
    "patient": "user",
    "subject": "user",
    "account": "user, connection",
    "vendor": "provider",
    "source": "provider",
    "integration": "provider",
    "link": "connection",
    "session": "grant, token",
    "egv": "reading",
    "entry": "reading",
    "sample": "reading",
    "created at": "measured_at, recorded_at",
    "chunk": "segment",
    "bucket": "segment",
    "message": "change",
    "range": "window",
    "period": "window",
    "checkpoint": "watermark",
    "last sync": "watermark",
    "offset": "cursor",
    "sync": "poll",
    "history": "backfill",
    "import": "backfill",
    "hole": "gap",
    "lock": "shard, owner, epoch, generation",
    "signal": "ring, bell",
    "dispatcher": "relay",
    "job": "actor",
    "manager": "supervisor, runtime",
    "handler": "actor",
    "util": "a noun for what it is",
    "helper": "a noun for what it is",
    "common": "a noun for what it is",
    "base": "a noun for what it is",
}


class Allowed(NamedTuple):
    """An identifier that may hold a rival word, where, and why."""

    identifier: str
    place: str
    reason: str


ALLOWED = [
    Allowed("provider_account", "*", "the person's account with the provider, never our user"),
    Allowed("ProviderAccount", "bg_ingest/providers/*", "the same as a type"),
    Allowed("*account*", "bg_ingest/adapters/table/*", "the stored item `account#…`"),
    Allowed("*source", "bg_ingest/adapters/*", "an attribute of CloudEvents"),
    Allowed("source", "bg_ingest/domain/events.py", "an attribute of CloudEvents"),
    Allowed("SOURCE", "bg_ingest/wiring.py", "an attribute of CloudEvents"),
    Allowed("message_id", "bg_ingest/adapters/*", "a property of AMQP"),
    Allowed("message", "bg_ingest/api/*", "an event of ASGI"),
    Allowed("message", "bg_ingest/metrics/http.py", "an event of ASGI"),
    Allowed("ranges", "bg_ingest/api/*", "media ranges of an Accept header"),
    Allowed("DataRange", "bg_ingest/providers/*", "Dexcom's endpoint"),
    Allowed("*egv*", "bg_ingest/providers/dexcom/*", "Dexcom's word"),
    Allowed("Egv", "bg_ingest/providers/dexcom/*", "Dexcom's word"),
    Allowed("*offset*", "*", "a time zone's distance from UTC"),
    Allowed("base_url", "*", "httpx's name"),
    Allowed("dexcom_api_base_url", "*", "the setting's given name"),
    Allowed("base", "bg_ingest/domain/columns.py", "the instant from which a column counts"),
    Allowed("lock", "bg_ingest/adapters/sqlite/*", "the operating system's lock on a file"),
    Allowed("*signal*", "workers/runtime.py", "the operating system's signals"),
    Allowed("DRAIN_SIGNAL", "workers/runtime.py", "the operating system's signals"),
    Allowed("set_loop_signals", "bg_ingest/server.py", "the operating system's signals"),
    Allowed("handler", "bg_ingest/telemetry.py", "logging's word"),
]

LOGGING = {"debug", "info", "warning", "error", "exception", "critical", "bind"}


def defined(tree: ast.Module) -> Iterator[str]:
    """Modules, classes, functions, arguments, fields, variables, and the keys of log lines."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.Call(func=ast.Attribute(attr=method), keywords=keywords) if method in LOGGING:
                yield from (keyword.arg for keyword in keywords if keyword.arg)


def rivals(identifier: str) -> set[str]:
    """Return the rival words in an identifier, in snake or camel case, singular or plural."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)]
    singular = {word.removesuffix("ies") + "y" if word.endswith("ies") else word.removesuffix("s") for word in words}
    pairs = {f"{one} {other}" for one, other in pairwise(words)}
    return SAY_INSTEAD.keys() & (singular | set(words) | pairs)


def may_stand(identifier: str, place: str) -> bool:
    return any(fnmatchcase(identifier, each.identifier) and fnmatchcase(place, each.place) for each in ALLOWED)


@cache
def names_in(path: Path) -> set[str]:
    return {*path.relative_to(ROOT).with_suffix("").parts, *defined(ast.parse(path.read_text()))}


def test_names_use_the_words_of_the_glossary() -> None:
    places = {path: path.relative_to(ROOT).as_posix() for path in MODULES}
    found = [(path, name) for path in MODULES for name in names_in(path) if rivals(name)]
    assert not [
        (places[path], name, [SAY_INSTEAD[word] for word in rivals(name)])
        for path, name in found
        if not may_stand(name, places[path])
    ]


def test_every_exception_is_needed() -> None:
    standing = [
        (name, path.relative_to(ROOT).as_posix()) for path in MODULES for name in names_in(path) if rivals(name)
    ]
    needless = [
        each
        for each in ALLOWED
        if not any(fnmatchcase(name, each.identifier) and fnmatchcase(place, each.place) for name, place in standing)
    ]
    assert not needless


@pytest.mark.parametrize(
    ("identifier", "words"),
    [
        ("UserSession", {"session"}),
        ("sync_jobs", {"sync", "job"}),
        ("last_sync_at", {"sync", "last sync"}),
        ("createdAt", {"created at"}),
        ("ENTRIES", {"entry"}),
        ("HTTPHandler", {"handler"}),
        ("resource", set()),
        ("asynchronous", set()),
        ("blocked", set()),
        ("arrange", set()),
    ],
)
def test_a_rival_is_found_as_a_whole_word(identifier: str, words: set[str]) -> None:
    assert rivals(identifier) == words
