"""A broken record of a page costs only itself, in polls and webhooks, and the watermark passes it."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.errors import ProviderMisbehaved
from tests.fakes.clock import NOON
from tests.harness.dexcom_answers import (
    CREDENTIALS,
    EARLY,
    USER,
    decode_page,
    egvs,
    record,
    scripted_answer,
    token_pair,
    tokens_of,
)
from tests.unit.providers.test_json_records import BROKEN


def page(*records: bytes) -> bytes:
    return b'{"recordType":"egv","recordVersion":"3.0","userId":"%s","records":[%s]}' % (
        USER.encode(),
        b",".join(records),
    )


def sound(number: int) -> bytes:
    at = EARLY + number * timedelta(minutes=5)
    return json.dumps(record(recordId=str(number), systemTime=at.strftime("%Y-%m-%dT%H:%M:%SZ"))).encode()


def changed(field: str, content: bytes) -> bytes:
    """Return a record with the JSON of one field replaced."""
    return json.dumps(record(**{field: "HERE"})).encode().replace(b'"HERE"', content)


CONTENTS = {
    "lone surrogate": (b'"iPhone \\ud83d"', "not_a_record"),
    "leading zeros": (b"007", "not_a_record"),
    "trailing comma": (b'"iOS",', "not_a_record"),
    "deep nesting": (b"[" * 10_000 + b"]" * 10_000, "not_a_record"),
    "number beyond any type": (b"1e999", "not_a_record"),
    "not UTF-8": (b'"\xff"', "not_a_record"),
    "control character": (b'"a\x00"', "not_a_record"),
    "65 characters": (b'"' + b"x" * 65 + b'"', "text_too_long"),
    "500 KB": (b'"' + b"x" * 500_000 + b'"', "text_too_long"),
    "another value": (b'"a","displayDevice":"b"', "repeated_field"),
    "the same value beside deep objects": (
        b'"a","displayDevice":"a","note":' + b'{"a":' * 600 + b"1" + b"}" * 600,
        "repeated_field",
    ),
}


@pytest.mark.parametrize(("content", "reason"), CONTENTS.values(), ids=CONTENTS)
def test_f4_s18_one_broken_text_at_any_position_of_a_page_costs_only_its_record(content: bytes, reason: str) -> None:
    records = [sound(number) for number in range(1, 6)]
    for position in range(6):
        content_of_page = page(*records[:position], changed("displayDevice", content), *records[position:])
        found = decode_page(content_of_page, NOON)
        assert [unreadable.reason for unreadable in found.unreadable] == [reason]
        assert len(found.readings) == 5


@pytest.mark.parametrize("field", ["trend", "unit", "rateUnit", "status", "transmitterId", "transmitterGeneration"])
def test_f20_s18_each_text_has_64_characters_at_most(field: str) -> None:
    found = decode_page(egvs(record(**{field: "x" * 65})), NOON)
    assert [unreadable.reason for unreadable in found.unreadable] == ["text_too_long"]
    assert "text_too_long" not in {
        entry.reason for entry in decode_page(egvs(record(**{field: "x" * 64})), NOON).unreadable
    }


@pytest.mark.parametrize("field", sorted(record()))
@pytest.mark.parametrize("name", BROKEN)
def test_f4_a_broken_value_of_any_field_never_costs_another_record(field: str, name: str) -> None:
    found = decode_page(page(sound(1), changed(field, BROKEN[name]), sound(2)), NOON)
    assert len(found.readings) + len(found.unreadable) == 3
    assert {reading.measured_at.minute for reading in found.readings} >= {5, 10}


@given(st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_f4_bytes_anywhere_in_a_record_cost_only_that_record(position: int, noise: bytes) -> None:
    broken = sound(0)[:position] + noise + sound(0)[position:]
    found = decode_page(page(sound(1), broken, sound(2), sound(3)), NOON)
    assert {reading.measured_at.minute for reading in found.readings} >= {10, 15}


@pytest.mark.parametrize(
    "field", [b'"recordVersion":"\\ud83d",', b'"note":"\xff",', b'"total":NaN,', b'"a":1e999,', b'"note":"a\tb",']
)
def test_f4_broken_text_beside_the_records_costs_none(field: bytes) -> None:
    found = decode_page(b"{" + field + page(sound(1), sound(2))[1:], NOON)
    assert (found.provider_account, len(found.readings), found.unreadable) == (USER, 2, ())


@pytest.mark.parametrize("account", [b'"\\ud83d"', b'"' + b"x" * 129 + b'"', b"NaN", b"7"])
def test_f20_a_page_without_a_usable_account_is_misbehaviour(account: bytes) -> None:
    with pytest.raises(ProviderMisbehaved):
        decode_page(page(sound(1)).replace(b'"%s"' % USER.encode(), account), NOON)


def test_f4_equal_repeated_fields_contradict_nothing() -> None:
    found = decode_page(page(changed("value", b'120,"value":120,"more":{"value":1}')), NOON)
    assert [reading.glucose_mg_dl for reading in found.readings] == [120]


def test_f4_a_page_cut_anywhere_is_never_taken_for_a_whole_one() -> None:
    whole = page(sound(1), sound(2), sound(3))
    for length in range(len(whole) - 1):
        with pytest.raises(ProviderMisbehaved):
            decode_page(whole[:length], NOON)


@pytest.mark.parametrize("odd", [b'"scope":"\\ud83d",', b'"scope":"\xff",', b'"expires_in":NaN,'])
async def test_f4_broken_text_beside_the_tokens_does_not_lose_them(odd: bytes) -> None:
    given = scripted_answer(200, b"{" + odd + token_pair()[1:])
    renewed = await given.provider.renew("us", CREDENTIALS)
    assert tokens_of(renewed).access.reveal() == "access-token-1"
