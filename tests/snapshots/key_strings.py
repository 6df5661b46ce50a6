"""Stored keys for sample arguments, identified by the produced strings."""

from datetime import UTC, datetime, timedelta

from bg_ingest.domain.access import AuditAction, AuditRecord
from bg_ingest.domain.call_budget import BudgetKey
from bg_ingest.domain.connections import Connection, ConnectionState
from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId, shard_of
from bg_ingest.domain.windows import Window
from bg_ingest.store import keys

AT = datetime(2026, 3, 2, 12, 34, 56, 789_000, UTC)
ADA = UserId("ada")
OTHER = UserId("Eva.Long:name@host|1-2_3")
PAIRS = (ConnectionId(ADA, "dexcom"), ConnectionId(OTHER, "acme"))


def _connection(identity: ConnectionId, account: str | None) -> Connection:
    return Connection(
        id=identity,
        state=ConnectionState.ACTIVE,
        generation="first",
        region="us",
        app="our-app",
        connected_at=AT,
        provider_account=account,
    )


def produced_keys() -> list[list[str]]:
    """Return every key that the samples produce, sorted."""
    return sorted(list(key) for key in (*_of_users(), *_of_the_service()))


def _of_users() -> list[tuple[str, str]]:
    month = datetime(2026, 3, 1, tzinfo=UTC)
    hour = datetime(2026, 3, 2, 12, tzinfo=UTC)
    found: list[tuple[str, str]] = []
    for pair in PAIRS:
        user, known = pair.user, _connection(pair, "account-1")
        account = keys.connection_account(known)
        assert account is not None
        assert keys.connection_account(_connection(pair, None)) is None
        found += [
            keys.head(user),
            keys.segment(user, hour),
            keys.segment(user, datetime(987, 6, 5, 18, tzinfo=UTC)),
            *(keys.quarantine(user, number) for number in range(16)),
            keys.quarantine(user, hour),
            keys.quarantine(user, datetime(1999, 12, 31, 18, tzinfo=UTC)),
            keys.gap_month(pair, month),
            keys.gap_month(pair, datetime(1999, 12, 1, tzinfo=UTC)),
            keys.change(user, 1),
            keys.change(user, 123_456),
            keys.connection(pair),
            keys.grant(pair),
            keys.account(pair.provider, "ou", "account-2"),
            account,
            keys.state_of_user(user, "state-1"),
            keys.erasure(user),
            keys.webhook(known.id, "msg_1"),
            keys.webhook(known.id, "msg#2"),
            keys.directory(pair),
            keys.outbox(user, 7),
            keys.request("replica-1", 1_772_454_896_789, pair),
            keys.request("nobody", 5, ConnectionId(user, "")),
        ]
    return found


def _of_the_service() -> list[tuple[str, str]]:
    records = [
        AuditRecord("ab" * 16, AT, AuditAction.CHANGE, "key:one", "GET /api/audit", "mark"),
        AuditRecord("cd" * 16, datetime(2001, 1, 1, tzinfo=UTC), AuditAction.READ, "anybody", "GET /api/bg/{user_id}"),
        AuditRecord("cd" * 16, AT, AuditAction.PUSH, "token:ef", "POST /api/bg/{user_id}/webhook"),
    ]
    return [
        keys.META,
        keys.AUDIT_KEY,
        *(keys.audit(record) for record in records),
        keys.api_key("abc123"),
        keys.state("state-1"),
        keys.budget(BudgetKey("dexcom", "our-app", "us")),
        keys.owner("replica-1"),
        keys.shard(0),
        keys.shard(255),
    ]


def ranges() -> list[list[str]]:
    """Return partitions, prefixes and range ends, sorted."""
    window = Window(AT, AT + timedelta(days=2))
    prefixes = (keys.READINGS, keys.CONNECTIONS, keys.REQUESTS, keys.QUARANTINE, keys.STATES, keys.GRANTS, keys.OUTBOX)
    return sorted(
        [
            list(keys.audit_range("ab" * 16, window)),
            [keys.user_pk(ADA)],
            [keys.directory_pk(3)],
            list(keys.published(3)),
            [keys.inbox_pk("replica-1")],
            [keys.OWNERS],
            [keys.SHARDS],
            [keys.ERASURES],
            [keys.API_KEYS],
            list(keys.KEY_ID_RANGE),
            *(list(keys.prefix_range(prefix)) for prefix in prefixes),
        ]
    )


def parsed() -> dict[str, list[str]]:
    """Return the parts that are read back from keys, by the key."""
    found: dict[str, list[str]] = {}

    def add(key: tuple[str, str], *parts: object) -> None:
        found["|".join(key)] = [str(part) for part in parts]

    for key in _of_users():
        pk, sk = key
        user = keys.parse_user(key)
        if sk.startswith(keys.QUARANTINE):
            add(key, user, keys.parse_quarantine(key))
        elif sk.startswith("gap#"):
            assert user is not None
            add(key, user, keys.parse_gap_month(key), keys.parse_connection(user, key))
        elif sk.startswith((keys.CONNECTIONS, keys.GRANTS)) and user is not None:
            add(key, keys.parse_connection(user, key))
        elif sk.startswith(keys.OUTBOX):
            add(key, *keys.parse_outbox(key))
        elif pk.startswith("shard#"):
            add(key, keys.parse_directory(key))
        elif sk.startswith(keys.REQUESTS):
            add(key, *keys.parse_request(key))
        elif pk == keys.ERASURES:
            add(key, keys.parse_erasure(key))
        else:
            add(key, user)
    return found


def shards() -> dict[str, int]:
    """Return the shards of sample users, and the number of shards."""
    users = (ADA, OTHER, *(UserId(f"u{number}") for number in range(8)))
    return {**{str(user): shard_of(user) for user in users}, "#": SHARDS}
