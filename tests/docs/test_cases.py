"""The 50 numbered faults of Dexcom, a network, a store and a queue: each has a test with its number in the name.

Examples: ``test_case_17_…``, and for several cases ``test_case_22_and_38_…``.
"""

import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]

ELSEWHERE = {
    48: "LibreLinkUp's redirects, versions and terms: with that provider",
    49: "Share's zero ids and lock-outs: with that provider",
}
"""Cases of providers that are not implemented."""

CASES = range(1, 51)

_NAMED = re.compile(r"^(?:async )?def test_case((?:_and)?(?:_\d+(?:_and)?)+)_", re.MULTILINE)


def numbers_in(code: str) -> Iterator[int]:
    for names in _NAMED.findall(code):
        yield from (int(number) for number in re.findall(r"\d+", names))


def test_every_case_has_a_test_or_a_reason() -> None:
    named = {number for path in TESTS.rglob("test_*.py") for number in numbers_in(path.read_text("utf-8"))}
    assert sorted(named - set(CASES)) == [], "unknown case numbers"
    assert sorted(set(CASES) - named - set(ELSEWHERE)) == []
    assert sorted(named & set(ELSEWHERE)) == [], "remove the cases that have a test now"


def test_numbers_are_found_in_names() -> None:
    code = (
        "def test_case_02_38_40_x() -> None: ...\nasync def test_case_4_and_5_y() -> None: ...\ndef test_7_z(): ...\n"
    )
    assert sorted(numbers_in(code)) == [2, 4, 5, 38, 40]
