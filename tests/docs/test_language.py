"""Rules of language and structure: docstring openings, words of the glossary, retired words, file sizes, cycles."""

import pytest

from tests.docs.classes import outside_assignments, repeated_class_names
from tests.docs.identifiers import Allowed, breaches, needless, replaced_words, uses
from tests.docs.shape import MAX_FILE_LINES, import_cycles, imports, large_files
from tests.docs.source import (
    ROOT,
    WORD_GROUPS,
    WORD_LIMITS,
    Module,
    question_openings,
    read_modules,
    within,
    word_rates,
)

KINDS = ("module", "class", "function", "attribute")
PRODUCT = read_modules(ROOT)
INNER = [module for module in PRODUCT if module.path.startswith(("bg_ingest/domain/", "bg_ingest/services/"))]

SAY_INSTEAD = {
    **dict.fromkeys(("patient", "subject"), "user"),
    "account": "user, connection",
    **dict.fromkeys(("vendor", "source", "integration"), "provider, connection"),
    "link": "connection",
    "session": "grant, credentials, token",
    **dict.fromkeys(("egv", "entry", "sample"), "reading"),
    "created at": "measured_at, recorded_at",
    **dict.fromkeys(("chunk", "bucket"), "segment"),
    "message": "change",
    **dict.fromkeys(("range", "period"), "window"),
    **dict.fromkeys(("checkpoint", "last sync"), "watermark"),
    "offset": "cursor",
    "sync": "poll, fetch",
    "ending": "outcome, result",
    "history": "backfill",
    "hole": "gap",
    "lock": "shard, owner, epoch, generation",
    "signal": "request, wake-up, hint",
    "dispatcher": "relay",
    **dict.fromkeys(("job", "manager", "handler"), "actor, supervisor, runtime"),
    **dict.fromkeys(("util", "helper"), "a noun of the glossary"),
}
"""Third column of the glossary (design.md, section 10), without the words that are retired everywhere."""

SYNONYMS_ALLOWED = [
    Allowed("provider_account", "*", "the person's account with the provider, never our user"),
    Allowed("account_data", "bg_ingest/services/*", "facts about the account with the provider, never our user"),
    Allowed("source", "bg_ingest/*", "attribute of CloudEvents"),
    Allowed("_cloud_source", "bg_ingest/*", "attribute of CloudEvents"),
    Allowed("utc_offset_seconds", "bg_ingest/domain/*", "difference of a time zone from UTC"),
    Allowed("*offset*", "bg_ingest/domain/*", "difference of a time zone from UTC"),
    Allowed("ranges", "bg_ingest/*", "field of statistics: ranges of glucose values"),
    Allowed("RANGES", "bg_ingest/domain/*", "ranges of glucose values"),
    Allowed("entr*", "bg_ingest/services/*", "entries of the outbox and of the audit"),
    Allowed("*_lock", "bg_ingest/services/*", "anyio.Lock, never the ownership of a shard"),
    Allowed("_user_locks", "bg_ingest/services/*", "anyio.Lock, never the ownership of a shard"),
    Allowed("clamp_to_range", "bg_ingest/domain/*", "range of values that a sensor can measure"),
]

RETIRED = {
    "turn": "poll",
    **dict.fromkeys(("look", "looked", "looking"), "poll, fetch, check"),
    **dict.fromkeys(("tell", "told", "telling"), "publish, log, notify"),
    **dict.fromkeys(("ring", "wish"), "request"),
    "bell": "wake-up",
    "till": "limiter",
    **dict.fromkeys(("seat", "seated", "unseat"), "scheduled connection"),
    **dict.fromkeys(("shelf", "shelve", "shelves", "shelved", "shelving"), "quarantine page"),
    "set aside": "quarantined",
    **dict.fromkeys(("stretch", "stretched"), "slowdown, run"),
    "standing": "summary",
    **dict.fromkeys(("door", "gate"), "guard"),
    **dict.fromkeys(("desk", "house"), "the object's technical name"),
    **dict.fromkeys(("place", "placed"), "waiter, key, path"),
    "slice": "permits, reservation",
    "mix": "calls per poll",
    "ticket": "retry time",
    **dict.fromkeys(("want", "wanted", "unwanted"), "demand"),
    **dict.fromkeys(("judge", "judged", "judging", "judgement"), "check, detect"),
    "moment": "event, instant",
    **dict.fromkeys(("beat", "bury", "buried"), "heartbeat, remove"),
    "parting": "handover",
}
"""Section 3 of refactoring.md. Plurals are found as well."""

RETIRED_ALLOWED = [
    Allowed(
        "wanted_per_second", "bg_ingest/domain/replica_status.py", "field of /api/workers and of a metric, outside"
    ),
]


def test_no_docstring_begins_with_a_question_word() -> None:
    assert not [
        (docstring.path, docstring.line, docstring.text[:60]) for docstring in question_openings(PRODUCT, KINDS)
    ]


@pytest.mark.parametrize("folder", ["bg_ingest/", "workers/"])
@pytest.mark.parametrize("group", WORD_GROUPS)
def test_indirect_words_are_rare_in_prose(folder: str, group: str) -> None:
    assert word_rates(within(PRODUCT, folder))[group] <= WORD_LIMITS[group]


def test_domain_and_services_use_the_words_of_the_glossary() -> None:
    assert not breaches(uses(INNER, SAY_INSTEAD), SYNONYMS_ALLOWED, SAY_INSTEAD)


def test_no_identifier_has_a_retired_word() -> None:
    assert not breaches(uses(PRODUCT, RETIRED), RETIRED_ALLOWED, RETIRED)


def test_every_exception_is_needed() -> None:
    assert not needless(uses(INNER, SAY_INSTEAD), SYNONYMS_ALLOWED)
    assert not needless(uses(PRODUCT, RETIRED), RETIRED_ALLOWED)


def test_no_file_is_too_long() -> None:
    assert not large_files(PRODUCT)


def test_no_import_cycle_exists() -> None:
    assert not import_cycles(imports(PRODUCT))


def test_class_names_are_unique() -> None:
    assert not repeated_class_names(PRODUCT)


def test_constructed_objects_are_complete() -> None:
    assert not outside_assignments(PRODUCT)


def module(text: str, path: str = "bg_ingest/domain/sample.py") -> Module:
    return Module(path, text)


@pytest.mark.parametrize("text", ['"""How it works."""', 'class A:\n    """Whose it is."""', 'X = 1\n"""When due."""'])
def test_a_question_word_at_the_start_is_found(text: str) -> None:
    assert question_openings([module(text)], KINDS)
    assert not question_openings([module(text.replace('"""', '"""Text: ', 1))], KINDS)


def test_words_of_docstrings_and_comments_are_counted_and_those_of_code_are_not() -> None:
    rates = word_rates([module('"""Nobody asks."""\nwhat = "what"  # what for\n')])
    assert rates == {"what": 250, "who, whom, whose": 0, "told, tell": 0, "nobody, anybody, everybody": 250}


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
    ],
)
def test_a_synonym_is_found_as_a_whole_word(identifier: str, words: set[str]) -> None:
    assert replaced_words(identifier, SAY_INSTEAD) == words


@pytest.mark.parametrize("identifier", ["Turns", "set_aside", "_looked_at", "ByPlace", "WISHES", "shelf_of"])
def test_a_retired_word_is_found(identifier: str) -> None:
    assert replaced_words(identifier, RETIRED)


@pytest.mark.parametrize("identifier", ["returning", "string", "heartbeat", "replaced", "lookback", "understanding"])
def test_a_retired_word_inside_another_word_is_no_breach(identifier: str) -> None:
    assert not replaced_words(identifier, RETIRED)


def test_definitions_and_log_actions_are_identifiers_and_strings_are_not() -> None:
    text = 'import a as bell\nlog.info("a ring", action="turn_failed", seat=1)\nx = "wish"\nself.desk = door()\n'
    assert {use.identifier for use in uses([module(text)], RETIRED)} == {"bell", "turn_failed", "seat", "desk"}


def test_an_exception_covers_its_use_and_is_otherwise_needless() -> None:
    all_uses = uses([module("ring = 1")], RETIRED)
    fitting, other = Allowed("ring", "bg_ingest/*", "test"), Allowed("ring", "workers/*", "test")
    assert not breaches(all_uses, [fitting], RETIRED)
    assert len(breaches(all_uses, [other], RETIRED)) == 1
    assert needless(all_uses, [fitting, other]) == [other]


def test_a_long_file_is_found() -> None:
    assert large_files([module("\n" * (MAX_FILE_LINES + 1))])
    assert not large_files([module("\n" * MAX_FILE_LINES)])


def test_a_cycle_is_found_also_through_an_import_inside_a_function() -> None:
    first = module("from bg_ingest import b", "bg_ingest/a.py")
    second = module("def run():\n    import bg_ingest.c", "bg_ingest/b.py")
    assert not import_cycles(imports([first, second, module("", "bg_ingest/c.py")]))
    third = module("from bg_ingest.a import name", "bg_ingest/c.py")
    assert import_cycles(imports([first, second, third])) == [["bg_ingest.a", "bg_ingest.b", "bg_ingest.c"]]


def test_a_repeated_class_name_is_found() -> None:
    assert repeated_class_names([module("class A: ...", "app.py"), module("class A: ...", "workers/a.py")])
    assert not repeated_class_names(
        [module("class A: ...", "app.py"), module("class A: ...", "bg_ingest/simulator/a.py")]
    )


ACTOR = "class Actor:\n    def __init__(self): self.timer = None\n    def run(self): ..."
RECORD = "class Row(Struct):\n    size: int"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("def build(actor):\n    actor.timer = 1", 1),
        ("def build(actor):\n    actor.timer += 1", 0),
        ("def build(actor):\n    actor.other = 1", 0),
        ("def build(row):\n    row.size = 1", 0),
        ("def build():\n    with open_actor() as actor:\n        actor.timer = 1", 1),
    ],
)
def test_an_attribute_assigned_from_outside_is_found(text: str, count: int) -> None:
    others = [module(ACTOR, "workers/actor.py"), module(RECORD, "workers/row.py")]
    assert len(outside_assignments([*others, module(text, "workers/build.py")])) == count
