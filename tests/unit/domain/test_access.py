"""API keys and tokens: the text of a key, its validity, and the access of a caller; names and hashes of the audit."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.access import (
    ALL_USERS,
    ANONYMOUS,
    AUDIT_KEY_BYTES,
    ApiKey,
    AuditAction,
    AuditRecord,
    Caller,
    Scope,
    TokenClaims,
    hash_key,
    hash_user,
    hour_start,
    known_scopes,
    parse_key_id,
)
from bg_ingest.domain.ids import UserId
from tests.fakes.clock import NOON

SECRET = "s" * 43
KEY = ApiKey(
    id="dashboard",
    name="Dashboard",
    digest=hash_key(f"bgi_dashboard_{SECRET}"),
    scopes=frozenset({Scope.READINGS_READ}),
    users=frozenset({UserId("ada")}),
    made_at=NOON,
)
LATER = NOON + timedelta(days=1)


@given(st.text("abcxyz0189", min_size=1, max_size=32), st.integers(43, 128))
def test_the_id_of_a_key_is_read_from_its_text(key_id: str, length: int) -> None:
    assert parse_key_id(f"bgi_{key_id}_{'x' * length}") == key_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"bgi_a_{'x' * 42}",
        f"bgi_a_{'x' * 129}",
        f"bgi__{SECRET}",
        f"bgi_{'a' * 33}_{SECRET}",
        f"bgi_A_{SECRET}",
        f"xbgi_a_{SECRET}",
        f"bgi_a_{SECRET}\n",
        f"bgi_a_{SECRET} ",
        f"bgi_ä_{SECRET}",
    ],
)
def test_a_text_of_another_form_is_no_key(text: str) -> None:
    assert parse_key_id(text) is None


def test_a_key_matches_its_own_text_until_its_end() -> None:
    limited_key = msgspec.structs.replace(KEY, ends_at=LATER)
    assert limited_key.matches(hash_key(f"bgi_dashboard_{SECRET}"), NOON)
    assert not limited_key.matches(hash_key(f"bgi_dashboard_{SECRET}x"), NOON)
    assert limited_key.is_valid(LATER - timedelta(microseconds=1))
    assert not limited_key.is_valid(LATER)
    assert not limited_key.matches(KEY.digest, LATER)


def test_a_key_without_an_end_is_valid_until_it_is_revoked() -> None:
    assert KEY.is_valid(NOON + timedelta(days=10_000))
    assert not msgspec.structs.replace(KEY, revoked_at=NOON).is_valid(NOON)


def test_a_key_accesses_its_own_users_only() -> None:
    assert KEY.caller == Caller("key:dashboard", KEY.scopes, KEY.users)
    assert KEY.caller.may_access("ada")
    assert not KEY.caller.may_access("ben")
    assert not msgspec.structs.replace(KEY, users=frozenset()).caller.may_access("ada")
    assert msgspec.structs.replace(KEY, users=None).caller.may_access("ben")


def test_scopes_of_other_services_are_ignored() -> None:
    assert known_scopes(["openid", "readings:read", "admin", "ADMIN"]) == {Scope.READINGS_READ, Scope.ADMIN}


def test_a_token_accesses_its_own_user_unless_its_scope_is_all_users() -> None:
    own = TokenClaims("ada", frozenset({"readings:read", "openid"})).caller
    assert own == Caller("token:ada", frozenset({Scope.READINGS_READ}), frozenset({UserId("ada")}))
    every = TokenClaims("service", frozenset({"connections:read", ALL_USERS})).caller
    assert every == Caller("token:service", frozenset({Scope.CONNECTIONS_READ}), None)


def test_without_authentication_a_caller_has_every_scope_for_every_user() -> None:
    assert ANONYMOUS.scopes == set(Scope)
    assert ANONYMOUS.may_access("ada")


RECORD = AuditRecord("0" * 32, NOON, AuditAction.CHANGE, "key:dashboard", "DELETE /api/users/{user_id}", "nonce")
AUDIT_KEY, OTHER_AUDIT_KEY = b"k" * AUDIT_KEY_BYTES, b"o" * AUDIT_KEY_BYTES


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


def test_the_hash_of_a_user_depends_on_the_key_and_on_the_id() -> None:
    hashed = hash_user(AUDIT_KEY, "ada")
    assert hashed == hash_user(AUDIT_KEY, "ada")
    assert hashed not in {hash_user(OTHER_AUDIT_KEY, "ada"), hash_user(AUDIT_KEY, "ben")}
    assert len(bytes.fromhex(hashed)) == 16


def test_an_hour_starts_at_its_first_microsecond() -> None:
    last = NOON + timedelta(hours=1) - timedelta(microseconds=1)
    assert hour_start(last) == NOON
    assert hour_start(NOON) == NOON
