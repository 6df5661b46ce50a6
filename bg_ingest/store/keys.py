"""All keys of the table. ``#`` separates their parts: user ids, providers and regions have none."""

from datetime import UTC, datetime
from hashlib import blake2b
from sys import intern

from bg_ingest.domain.audit import AuditRecord
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
STATES, GRANTS = "state#", "grant#"
OWNERS, SHARDS, ERASURES = "owners", "shards", "erasures"
API_KEYS = "keys"
KEY_ID_RANGE = ("0", "~")
"""Before and after all ids of API keys, which are small letters and digits."""
FIRST_SORT_KEY, LAST_SORT_KEY = "0", "~"
"""Around every user id, and every sort key of a user: they start with a letter or a digit."""
_TIMELESS = "timeless"
"""Alone it is place 0, and was all places before there were sixteen."""


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
    """Return the month."""
    month = key[1].rpartition("#")[2]
    return datetime(int(month[:4]), int(month[4:]), 1, tzinfo=UTC)


def change(user: UserId, number: int) -> Key:
    return user_pk(user), f"change#{number:012}"


def parse_change(key: Key) -> int:
    """Return the number."""
    return int(key[1].rpartition("#")[2])


def connection(identity: ConnectionId) -> Key:
    return user_pk(identity.user), f"{CONNECTIONS}{identity.provider}"


def grant(identity: ConnectionId) -> Key:
    return user_pk(identity.user), f"{GRANTS}{identity.provider}"


def account(provider: str, region: str, provider_account: str) -> Key:
    return f"account#{provider}#{region}#{provider_account}", "user"


def connection_account(connection: Connection) -> Key | None:
    """Return the row that gives the connection's provider account to its user, once that account is known."""
    if connection.provider_account is None:
        return None
    return account(connection.id.provider, connection.region, connection.provider_account)


def api_key(key_id: str) -> Key:
    return API_KEYS, key_id


def state(state: str) -> Key:
    return f"{STATES}{state}", "state"


def state_of_user(user: UserId, state: str) -> Key:
    """Return the row by which a user's states are found."""
    return user_pk(user), f"{STATES}{state}"


def erasure(user: UserId) -> Key:
    """Return the row that stands while something of an erased user may be left."""
    return ERASURES, user


def audit(record: AuditRecord) -> Key:
    return f"audit#{record.user_hash}", f"{to_epoch_ms(record.at):013}#{record.name}"


def audit_range(user_hash: str, window: Window) -> tuple[str, str, str]:
    """Return the partition of a person's audit, and between which sort keys a window of it lies."""
    return f"audit#{user_hash}", f"{to_epoch_ms(window.start):013}", f"{to_epoch_ms(window.end) - 1:013}$"


def webhook(connection: Connection, webhook_id: str) -> Key:
    """Return the row of an id, which its sender chose freely: hence the digest. Another connect has others."""
    whole = f"{connection.id.user}#{connection.id.provider}#{connection.generation}#{webhook_id}"
    return f"webhook#{blake2b(whole.encode(), digest_size=16).hexdigest()}", "webhook"


def budget(key: BudgetKey) -> Key:
    return f"budget#{key}", "now"


def directory_pk(shard: int) -> str:
    return f"shard#{shard}"


def directory(identity: ConnectionId) -> Key:
    return directory_pk(shard_of(identity.user)), f"{CONNECTIONS}{identity.user}#{identity.provider}"


def outbox_pk(shard: int) -> str:
    return f"outbox#{shard}"


def outbox(shard: int, user: UserId, number: int) -> Key:
    return outbox_pk(shard), f"{user}#{number:012}"


def owner(name: str) -> Key:
    return OWNERS, name


def shard(number: int) -> Key:
    return SHARDS, str(number)


def inbox_pk(address: str) -> str:
    return f"owner#{address}"


def request(address: str, at: int, identity: ConnectionId) -> Key:
    return inbox_pk(address), f"{REQUESTS}{at:013}#{identity.user}#{identity.provider}"


def parse_user(key: Key) -> UserId | None:
    """Return whose row this is; None when it is nobody's."""
    kind, _, user = key[0].partition("#")
    return UserId(user) if kind == "user" else None


def parse_request(key: Key) -> tuple[int, ConnectionId]:
    _, at, user, provider = key[1].split("#")
    return int(at), ConnectionId(UserId(user), provider)


def parse_outbox(key: Key) -> tuple[UserId, int]:
    user, _, number = key[1].partition("#")
    return UserId(user), int(number)


def parse_connection(user: UserId, key: Key) -> ConnectionId:
    """Return whose connection row, or any other row with the provider last, this is."""
    return ConnectionId(user, key[1].rpartition("#")[2])


def parse_directory(key: Key) -> ConnectionId:
    _, user, provider = key[1].split("#")
    return ConnectionId(UserId(user), intern(provider))  # one string for all: there are many rows


def parse_erasure(key: Key) -> UserId:
    return UserId(key[1])


def prefix_end(prefix: str) -> str:
    """Return the end of the sort keys with a prefix that ends in ``#``: no key is exactly this."""
    return prefix[:-1] + "$"


def _hour(start: datetime) -> str:
    return f"{start.year:04}{start.month:02}{start.day:02}T{start.hour:02}Z"  # strftime does not pad old years
