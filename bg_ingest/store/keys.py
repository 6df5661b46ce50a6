"""Keys of all items. ``#`` separates the parts, because user ids, providers and regions do not contain it."""

from datetime import UTC, datetime
from hashlib import blake2b
from sys import intern

from bg_ingest.domain.access import AuditRecord
from bg_ingest.domain.call_budget import BudgetKey
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.quarantine import QuarantineKey
from bg_ingest.domain.segment_codec import to_epoch_ms
from bg_ingest.domain.windows import Window
from bg_ingest.ports.table import Key

META: Key = ("table", "meta")
AUDIT_KEY: Key = ("table", "audit-key")
HEAD = "head"
READINGS, CONNECTIONS, REQUESTS, QUARANTINE = "readings#", "connection#", "ring#", "quarantine#"
OUTBOX = "outbox#"
STATES, GRANTS = "state#", "grant#"
USERS = "user#"
OWNERS, SHARDS, ERASURES = "owners", "shards", "erasures"
OWNER_RANGE = (" ", "~")
"""Bounds of owner ids and shard numbers."""
API_KEYS = "keys"
KEY_ID_RANGE = ("0", "~")
"""Bounds of the ids of API keys, which are lower-case letters and digits."""
SORT_KEY_RANGE = ("0", "~")
"""Bounds of user ids and of a user's sort keys: all start with a letter or a digit."""
_TIMELESS = "timeless"
"""Name of the quarantine page for records without a time. The first hexadecimal digit of the digest follows unless it
is 0, because an earlier version had only one such page."""


def user_pk(user: UserId) -> str:
    return f"user#{user}"


def head(user: UserId) -> Key:
    return user_pk(user), HEAD


def segment(user: UserId, start: datetime) -> Key:
    return user_pk(user), f"{READINGS}{_hour(start)}"


def quarantine(user: UserId, page_key: QuarantineKey) -> Key:
    name = _hour(page_key) if isinstance(page_key, datetime) else f"{_TIMELESS}{f'#{page_key:x}' if page_key else ''}"
    return user_pk(user), f"{QUARANTINE}{name}"


def parse_quarantine(key: Key) -> QuarantineKey:
    name = key[1].removeprefix(QUARANTINE)
    if name.startswith(_TIMELESS):
        return int(name.partition("#")[2] or "0", 16)
    return datetime.strptime(name, "%Y%m%dT%HZ").replace(tzinfo=UTC)


def gap_month(identity: ConnectionId, month: datetime) -> Key:
    return user_pk(identity.user), f"gap#{identity.provider}#{month.year:04}{month.month:02}"


def parse_gap_month(key: Key) -> datetime:
    month = key[1].rpartition("#")[2]
    return datetime(int(month[:4]), int(month[4:]), 1, tzinfo=UTC)


def change(user: UserId, number: int) -> Key:
    return user_pk(user), f"change#{number:012}"


def parse_change(key: Key) -> int:
    return int(key[1].rpartition("#")[2])


def connection(identity: ConnectionId) -> Key:
    return user_pk(identity.user), f"{CONNECTIONS}{identity.provider}"


def grant(identity: ConnectionId) -> Key:
    return user_pk(identity.user), f"{GRANTS}{identity.provider}"


def account(provider: str, region: str, provider_account: str) -> Key:
    return f"account#{provider}#{region}#{provider_account}", "user"


def connection_account(connection: Connection) -> Key | None:
    """Return the key of the row that assigns a provider account to its user; None while the account is unknown."""
    if connection.provider_account is None:
        return None
    return account(connection.id.provider, connection.provider_identity[0], connection.provider_account)


def api_key(key_id: str) -> Key:
    return API_KEYS, key_id


def state(state: str) -> Key:
    return f"{STATES}{state}", "state"


def state_of_user(user: UserId, state: str) -> Key:
    """Return the key of the row that lists an OAuth state in the partition of its user."""
    return user_pk(user), f"{STATES}{state}"


def erasure(user: UserId) -> Key:
    """Return the key of the marker of an unfinished erasure."""
    return ERASURES, user


def audit(record: AuditRecord) -> Key:
    return f"audit#{record.user_hash}", f"{to_epoch_ms(record.at):013}#{record.name}"


def audit_range(user_hash: str, window: Window) -> tuple[str, str, str]:
    """Return the partition of a user's audit, and the lowest and highest sort key of a window."""
    return f"audit#{user_hash}", f"{to_epoch_ms(window.start):013}", f"{to_epoch_ms(window.end) - 1:013}$"


def webhook(connection: ConnectionId, webhook_id: str) -> Key:
    """Return the key of a webhook id. The id is hashed, because its sender chooses it."""
    whole = f"{connection.user}#{connection.provider}#{webhook_id}"
    return f"webhook#{blake2b(whole.encode(), digest_size=16).hexdigest()}", "webhook"


def budget(key: BudgetKey) -> Key:
    return f"budget#{key}", "now"


def directory_pk(shard: int) -> str:
    return f"shard#{shard}"


def directory(identity: ConnectionId) -> Key:
    return directory_pk(shard_of(identity.user)), f"{CONNECTIONS}{identity.user}#{identity.provider}"


def listed_user(user: UserId) -> Key:
    """Return the key of a row of the list of users."""
    return directory_pk(shard_of(user)), f"{USERS}{user}"


def parse_listed_user(key: Key) -> UserId:
    return UserId(key[1].removeprefix(USERS))


def outbox(user: UserId, number: int) -> Key:
    return directory_pk(shard_of(user)), f"{OUTBOX}{user}#{number:012}"


def published(shard: int) -> Key:
    """Return the key of a shard's published numbers. One query reads them together with connections and outbox rows."""
    return directory_pk(shard), "published"


def owner(name: str) -> Key:
    return OWNERS, name


def shard(number: int) -> Key:
    return SHARDS, str(number)


def inbox_pk(address: str) -> str:
    return f"owner#{address}"


def request(address: str, at: int, identity: ConnectionId) -> Key:
    return inbox_pk(address), f"{REQUESTS}{at:013}#{identity.user}#{identity.provider}"


def parse_user(key: Key) -> UserId | None:
    """Return the user in whose partition a row is; None for a row of another partition."""
    kind, _, user = key[0].partition("#")
    return UserId(user) if kind == "user" else None


def parse_request(key: Key) -> tuple[int, ConnectionId]:
    _, at, user, provider = key[1].split("#")
    return int(at), ConnectionId(UserId(user), provider)


def parse_outbox(key: Key) -> tuple[UserId, int]:
    _, user, number = key[1].split("#")
    return UserId(user), int(number)


def parse_connection(user: UserId, key: Key) -> ConnectionId:
    """Return the connection of a row whose sort key ends with the provider."""
    return ConnectionId(user, key[1].rpartition("#")[2])


def parse_directory(key: Key) -> ConnectionId:
    _, user, provider = key[1].split("#")
    return ConnectionId(UserId(user), intern(provider))  # one string object for many rows


def parse_erasure(key: Key) -> UserId:
    return UserId(key[1])


def prefix_range(prefix: str) -> tuple[str, str]:
    """Return the bounds of the sort keys with a prefix that ends in ``#``; no key equals the upper bound."""
    return prefix, prefix[:-1] + "$"


def _hour(start: datetime) -> str:
    return f"{start.year:04}{start.month:02}{start.day:02}T{start.hour:02}Z"  # strftime does not pad old years
