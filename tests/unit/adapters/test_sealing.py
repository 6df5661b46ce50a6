import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.adapters.sealing import AesGcmSealer, new_key
from bg_ingest.errors import SealBroken
from bg_ingest.ports import Sealer
from bg_ingest.setting_types import parse_sealing_key

OLD, NEW = b"o" * 32, b"n" * 32


@given(st.binary(), st.binary())
def test_what_was_sealed_opens_with_the_same_associated_data(secret: bytes, associated: bytes) -> None:
    key_ring: Sealer = AesGcmSealer([NEW])
    assert key_ring.open(key_ring.seal(secret, associated), associated) == secret


def test_sealing_twice_differs_and_shows_nothing_of_the_secret_or_the_key() -> None:
    key_ring = AesGcmSealer([NEW])
    sealed = {key_ring.seal(b"a secret of some length", b"row") for _ in range(50)}
    assert len(sealed) == 50
    assert not any(b"secret" in each or NEW[:8] in each for each in sealed)
    assert "nnn" not in repr(key_ring)


def test_sealed_bytes_moved_to_another_row_do_not_open() -> None:
    key_ring = AesGcmSealer([NEW])
    with pytest.raises(SealBroken):
        key_ring.open(key_ring.seal(b"secret", b"ada"), b"bea")


def test_no_altered_byte_goes_unnoticed() -> None:
    key_ring = AesGcmSealer([NEW, OLD])
    sealed = key_ring.seal(b"secret", b"row")
    for index in range(len(sealed)):
        altered = bytearray(sealed)
        altered[index] ^= 1
        with pytest.raises(SealBroken):
            key_ring.open(bytes(altered), b"row")


def test_cut_off_bytes_do_not_open() -> None:
    key_ring = AesGcmSealer([NEW])
    sealed = key_ring.seal(b"secret", b"row")
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            key_ring.open(sealed[:length], b"row")


def test_a_replaced_key_still_opens_what_it_sealed_and_seals_no_more() -> None:
    before, during, after = AesGcmSealer([OLD]), AesGcmSealer([NEW, OLD]), AesGcmSealer([NEW])
    assert during.open(before.seal(b"secret", b"row"), b"row") == b"secret"
    assert after.open(during.seal(b"secret", b"row"), b"row") == b"secret"
    with pytest.raises(SealBroken):
        after.open(before.seal(b"secret", b"row"), b"row")


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b""]])
def test_a_key_ring_needs_whole_keys(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AesGcmSealer(keys)


def test_new_keys_are_keys_and_differ() -> None:
    keys = {parse_sealing_key(new_key()) for _ in range(50)}
    assert (len(keys), None in keys) == (50, False)
