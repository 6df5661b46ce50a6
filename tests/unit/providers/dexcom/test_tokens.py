"""Content of Dexcom's credentials. Grants sealed before it was opaque have the same bytes."""

from datetime import UTC, datetime

import msgspec

from bg_ingest.domain.grants import Renewal, Secret, SecretBytes
from bg_ingest.providers.dexcom.tokens import parse_tokens
from tests.harness.dexcom_answers import CREDENTIALS, TOKENS


def test_tokens_come_back_from_their_credentials() -> None:
    assert parse_tokens(CREDENTIALS.content) == TOKENS
    assert (CREDENTIALS.expires_at, CREDENTIALS.renewal) == (TOKENS.expires_at, Renewal.SINGLE_USE)
    assert parse_tokens(CREDENTIALS.content).to_credentials() == CREDENTIALS


def test_content_is_the_array_that_earlier_versions_sealed() -> None:
    expires_at = datetime(2026, 1, 1, 2, tzinfo=UTC)
    packed = msgspec.msgpack.encode(["access", "refresh", expires_at])
    tokens = parse_tokens(SecretBytes(packed))
    assert (tokens.access, tokens.refresh, tokens.expires_at) == (Secret("access"), Secret("refresh"), expires_at)
    assert tokens.to_credentials().content.reveal() == packed
