import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.adapters.sealing import KeyRing, new_key, parse_key
from bg_ingest.errors import Unsealable
from bg_ingest.ports import Sealer

OLD, NEW = b"o" * 32, b"n" * 32


@given(st.binary(), st.binary())
def test_what_was_sealed_opens_with_the_same_associated_data(secret: bytes, associated: bytes) -> None:
    ring: Sealer = KeyRing([NEW])
    assert ring.open(ring.seal(secret, associated), associated) == secret


def test_sealing_twice_differs_and_shows_nothing_of_the_secret_or_the_key() -> None:
    ring = KeyRing([NEW])
    sealed = {ring.seal(b"a secret of some length", b"row") for _ in range(50)}
    assert len(sealed) == 50
    assert not any(b"secret" in each or NEW[:8] in each for each in sealed)
    assert "nnn" not in repr(ring)


def test_sealed_bytes_moved_to_another_row_do_not_open() -> None:
    ring = KeyRing([NEW])
    with pytest.raises(Unsealable):
        ring.open(ring.seal(b"secret", b"ada"), b"bea")


def test_no_altered_byte_goes_unnoticed() -> None:
    ring = KeyRing([NEW, OLD])
    sealed = ring.seal(b"secret", b"row")
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises(Unsealable):
            ring.open(bytes(altered), b"row")


def test_cut_off_bytes_do_not_open() -> None:
    ring = KeyRing([NEW])
    sealed = ring.seal(b"secret", b"row")
    for length in range(len(sealed)):
        with pytest.raises(Unsealable):
            ring.open(sealed[:length], b"row")


def test_a_replaced_key_still_opens_what_it_sealed_and_seals_no_more() -> None:
    before, during, after = KeyRing([OLD]), KeyRing([NEW, OLD]), KeyRing([NEW])
    assert during.open(before.seal(b"secret", b"row"), b"row") == b"secret"
    assert after.open(during.seal(b"secret", b"row"), b"row") == b"secret"
    with pytest.raises(Unsealable):
        after.open(before.seal(b"secret", b"row"), b"row")


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b""]])
def test_a_ring_needs_whole_keys(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyRing(keys)


@given(st.binary(min_size=32, max_size=32))
def test_a_key_may_be_written_in_base64_or_base64url_padded_or_not(key: bytes) -> None:
    for text in (base64.b64encode(key), base64.urlsafe_b64encode(key)):
        assert parse_key(text.decode()) == key
        assert parse_key(f" {text.decode().rstrip('=')}\n") == key


def test_new_keys_are_keys_and_differ() -> None:
    assert len({parse_key(new_key()) for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "text", ["", "password", "äöü", "!" * 44, "=" * 44, base64.b64encode(bytes(range(31))).decode()]
)
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="a key must be") as refused:
        parse_key(text)
    assert not text or text not in str(refused.value)
    assert refused.value.__cause__ is None
