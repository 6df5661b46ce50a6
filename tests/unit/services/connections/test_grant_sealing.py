"""Sealed credentials open only with their key, and only in the row where they are stored."""

import msgspec
import pytest

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.domain.grants import Credentials, Grant, SecretBytes
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.errors import SealBroken
from bg_ingest.services.connections.grant_sealing import GrantSealer
from tests.harness.sample_values import ACME, grant

CONTENT = b"access and refresh token"
SEALER = GrantSealer(AesGcmSealer([bytes(32)]), "test")


def sealed_grant() -> Grant:
    return SEALER.seal(grant(), Credentials(SecretBytes(CONTENT)))


def test_what_is_sealed_opens_again() -> None:
    assert SEALER.open(sealed_grant()) == SecretBytes(CONTENT)
    assert CONTENT not in sealed_grant().sealed
    assert sealed_grant().sealed != sealed_grant().sealed, "a nonce is used once"


@pytest.mark.parametrize(
    "moved",
    [
        {"id": ConnectionId(UserId("ben"), ACME.provider)},
        {"id": ConnectionId(ACME.user, "other")},
        {"generation": "other"},
    ],
)
def test_what_is_sealed_opens_nowhere_else(moved: dict[str, object]) -> None:
    with pytest.raises(SealBroken):
        SEALER.open(msgspec.structs.replace(sealed_grant(), **moved))


@pytest.mark.parametrize(
    "other",
    [GrantSealer(AesGcmSealer([bytes(32)]), "another table"), GrantSealer(AesGcmSealer([bytes([1] * 32)]), "test")],
)
def test_what_is_sealed_opens_in_no_other_table_and_with_no_other_key(other: GrantSealer) -> None:
    with pytest.raises(SealBroken):
        other.open(sealed_grant())


def test_the_next_version_is_sealed_to_the_same_row() -> None:
    assert SEALER.open(msgspec.structs.replace(sealed_grant(), version=2)) == SecretBytes(CONTENT)


def test_no_bit_of_what_is_sealed_can_be_flipped() -> None:
    own = sealed_grant()
    for bit in range(8 * len(own.sealed)):
        altered = bytearray(own.sealed)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealBroken):
            SEALER.open(msgspec.structs.replace(own, sealed=bytes(altered)))
