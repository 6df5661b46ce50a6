"""Names of audit records, and the hash in place of a user's id."""

from datetime import timedelta

import msgspec

from bg_ingest.domain.audit import KEY_BYTES, AuditAction, AuditRecord, hash_user, hour_start
from tests.fakes.clock import NOON

RECORD = AuditRecord("0" * 32, NOON, AuditAction.CHANGE, "key:dashboard", "DELETE /api/users/{user_id}", "nonce")
KEY, OTHER_KEY = b"k" * KEY_BYTES, b"o" * KEY_BYTES


def test_a_record_written_again_has_the_same_name() -> None:
    assert msgspec.structs.replace(RECORD).name == RECORD.name


def test_records_of_one_instant_have_different_names() -> None:
    others = [
        msgspec.structs.replace(RECORD, action=AuditAction.READ),
        msgspec.structs.replace(RECORD, credential="key:other"),
        msgspec.structs.replace(RECORD, route="GET /api/users/{user_id}"),
        msgspec.structs.replace(RECORD, nonce="another"),
    ]
    assert len({RECORD.name, *(other.name for other in others)}) == 5


def test_the_hash_of_a_user_depends_on_the_key_and_does_not_contain_the_id() -> None:
    hashed = hash_user(KEY, "ada")
    assert hashed == hash_user(KEY, "ada")
    assert hashed not in {hash_user(OTHER_KEY, "ada"), hash_user(KEY, "ben")}
    assert len(bytes.fromhex(hashed)) == 16
    assert "ada" not in hashed


def test_an_hour_starts_at_its_first_microsecond() -> None:
    last = NOON + timedelta(hours=1) - timedelta(microseconds=1)
    assert hour_start(last) == NOON
    assert hour_start(NOON) == NOON
