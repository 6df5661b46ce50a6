"""Records of pages that are not JSON: each broken record costs only itself, in linear time."""

import json
import sys
import time
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.providers.json_records import MAX_RECORDS, MAX_SCANNED_PAGE, Unsplittable, split_records

SOUND = b'{"id": "a]},{\\"b", "list": [{"x": [1, 2]}, {}], "n": 1.5, "text": "]"}'
FLAT = b'{"id":"a","value":120,"time":"2026-03-02T06:00:00Z"}'

BROKEN = {
    "lone surrogate": b'{"id":"\\ud83d"}',
    "trailing comma": b'{"id":"a",}',
    "leading zeros": b'{"id":007}',
    "constant": b'{"id":NaN}',
    "huge number": b'{"id":' + b"9" * 5_000 + b"}",
    "not UTF-8": b'{"id":"\xff\xfe"}',
    "control character": b'{"id":"\x00\n"}',
    "repeated key": b'{"id":1,"id":2}',
    "deep arrays": b'{"id":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "deep objects": b'{"id":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    "deep arrays without an end": b'{"id":' + b"[" * 10_000 + b"}",
    "long text": b'{"id":"' + b"x" * 500_000 + b'"}',
    "long nested text": b'{"id":["' + b"x" * 500_000 + b'"]}',
    "unescaped quotation mark": b'{"id":"iPhone 6"","value":1}',
    "unescaped quotation mark at the end": b'{"value":1,"id":"iPhone 6""}',
    "missing quotation mark": b'{"id":"iPhone,"value":1}',
    "escaped end": b'{"id":"iPhone\\","value":1}',
    "missing brace": b'{"id":"a"',
    "another brace": b'{"id":"a"}}',
    "another bracket": b'{"id":"a"]}',
    "words": b"no record",
    "a string": b'"no record"',
    "a string and a lone surrogate": b'"\\ud83d"',
    "null": b"null",
    "single quotes": b"{'id': 'a'}",
    "brace in the middle": b'{"id":"a"},"value":1}',
    "comment": b'{"id":1 /* new */}',
}


def page(*records: bytes, separator: bytes = b",") -> bytes:
    return b'{"userId":"u","records":[' + separator.join(records) + b'],"more":{"of":[1]}}'


@pytest.mark.parametrize("separator", [b",", b", \r\n\t"])
@pytest.mark.parametrize("sound", [FLAT, SOUND])
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_f4_a_broken_record_at_any_position_costs_only_itself(broken: bytes, sound: bytes, separator: bytes) -> None:
    for position in range(4):
        records = [sound] * 3
        records.insert(position, broken)
        rest, found = split_records(page(*records, separator=separator), "records")
        assert json.loads(rest) == {"userId": "u", "records": [], "more": {"of": [1]}}
        assert found.count(sound) == 3
        assert len(found) == 4


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.lists(anything, max_size=5), st.sampled_from([None, 2]))
def test_records_that_are_json_are_found_as_they_are(records: list[object], indent: int | None) -> None:
    content = json.dumps({"a": [1], "records": records, "b": {"c": 2}}, indent=indent).encode()
    rest, found = split_records(content, "records")
    assert json.loads(rest) == {"a": [1], "records": [], "b": {"c": 2}}
    assert list(map(json.loads, found)) == records


def test_a_trailing_comma_of_the_list_is_no_record() -> None:
    assert split_records(b'{"records":[{},{},]}', "records") == (b'{"records":[]}', [b"{}", b"{}"])


def test_records_of_a_repeated_field_are_all_found() -> None:
    assert split_records(b'{"records":[1],"records":[2]}', "records") == (b'{"records":[],"records":[]}', [b"1", b"2"])


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 10_000, page(FLAT)[:-30], page(FLAT, FLAT)[:70], b'{"records":[']
)
def test_a_page_without_its_end_is_refused(content: bytes) -> None:
    with pytest.raises(Unsplittable):
        split_records(content, "records")


@pytest.mark.parametrize("array", [b'{"x,{}]","records":[', b'"records":[{"x,{}]",'], ids=["open", "closed"])
def test_s3_the_work_for_many_arrays_of_broken_records_is_linear_in_the_page(array: bytes) -> None:
    content = b"{" + array * 1_000 + b'"userId":"a"}'
    calls = count()
    sys.setprofile(lambda *_: next(calls))
    try:
        split_records(content, "records")
    except Unsplittable:
        pass
    finally:
        sys.setprofile(None)
    assert next(calls) < MAX_SCANNED_PAGE + 10 * len(content)


FLOODS = {
    "zeros": b"0,",
    "arrays": b"[],",
    "objects": b"{},",
    "opened arrays": b"[",
    "opened objects": b'{"a":',
    "opened records": b"{[,",
    "quotation marks": b'"',
    "escaped quotation marks": b'"\\',
    "backslashes": b"\\",
    "escaped records": b'{"a":"\\"},',
    "odd records": b'{"a":"x"","b":1},',
    "nested records": b'{"a":[[[[[]]]]]},',
    "closed": b"}",
    "closed and spaced": b"}  ",
    "spaces": b" ",
    "arrays of broken records": b'{"x,{}]","records":[',
}


@pytest.mark.slow
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_s3_8_mb_of_anything_are_split_in_bounded_time(flood: bytes) -> None:
    content = page(flood * (8_000_000 // len(flood)))
    started = time.process_time()
    try:
        _, records = split_records(content, "records")
    except Unsplittable:
        records = []
    assert time.process_time() - started < 1.5
    assert len(records) <= MAX_RECORDS
