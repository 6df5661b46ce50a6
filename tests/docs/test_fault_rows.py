"""Faults from the field (F) and findings of a security test (S): each has a test with its id in the name.

Examples: ``test_f1_…``, and for several rows ``test_f28_s18_…``.
"""

import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]

# fmt: off
ROWS = {
    "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f12", "f13", "f14", "f16", "f16b", "f17", "f18", "f19",
    "f20", "f22", "f23", "f24", "f25", "f27", "f28", "f29", "f30", "f31", "f32", "f33", "f34", "f35", "f36",
    "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15", "s16", "s17", "s18",
}
# fmt: on

_NAMED = re.compile(r"^ *(?:async )?def test((?:_[fs]\d+b?)+)_", re.MULTILINE)


def ids_in(code: str) -> Iterator[str]:
    for names in _NAMED.findall(code):
        yield from names[1:].split("_")


def test_every_row_has_a_test() -> None:
    named = {row for path in TESTS.rglob("test_*.py") for row in ids_in(path.read_text("utf-8"))}
    assert sorted(named ^ ROWS) == []


def test_ids_are_found_in_names() -> None:
    code = "def test_f1_x(): ...\n    async def test_f16b_s2_y(): ...\ndef test_f3x_z(): ...\ndef test_s4(): ...\n"
    assert [*ids_in(code)] == ["f1", "f16b", "s2"]
