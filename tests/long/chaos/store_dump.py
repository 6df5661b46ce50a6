"""Content of the store's file, read without the service; after a kill from a copy, so that nothing is repaired."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import anyio
import msgspec

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.adapters.sqlite.file import ItemFile
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId
from bg_ingest.settings.secrets import load_or_create_key
from bg_ingest.simulator.journal import token_hash
from bg_ingest.store import Store, keys
from bg_ingest.store.connections import decode_connection
from bg_ingest.store.grants import decode_grant
from bg_ingest.store.head import decode_head

PROVIDER = "dexcom"
FILE = "bg-ingest.sqlite"
TABLE = "bg-ingest"


class StoredGrant(msgspec.Struct, frozen=True):
    """A stored grant: hash of its refresh token, presence of a claim, and number of refusals."""

    refresh: str
    claimed: bool
    refusals: int = 0
    retry_at: datetime | None = None


class StoredUser(msgspec.Struct, frozen=True):
    """Stored state of one user."""

    connection: Connection
    grant: StoredGrant | None
    last_change: int


def after_kill(data: Path, users: Sequence[str]) -> dict[str, StoredUser]:
    """Return the stored state of connected users after a kill. ``data`` is the process's DATA_DIR."""
    with tempfile.TemporaryDirectory() as folder:
        for file in data.glob(f"{FILE}*"):
            if not file.name.endswith(".lock"):
                shutil.copy(file, folder)
        if not (Path(folder) / FILE).exists():
            return {}
        with open_items(Path(folder)) as items:
            return {user: found for user in users if (found := _read_user(items, data, UserId(user)))}


@contextmanager
def open_items(data: Path) -> Iterator[ItemFile]:
    """Open the store's file of an ended process."""
    with closing(ItemFile(str(data / FILE), lambda: SystemClock().now().timestamp())) as items:
        yield items


def change_numbers(items: ItemFile, user: str) -> list[int]:
    """Return the numbers of a user's stored changes, ascending."""
    low, high = keys.change(UserId(user), 0)[1], "change#~"
    found: list[int] = []
    after = False
    while page := items.page(keys.user_pk(UserId(user)), low, high, 1000, after=after):
        found += [int(key[1].partition("#")[2]) for key, _ in page]
        after, low = True, page[-1][0][1]
    return found


def head_number(items: ItemFile, user: UserId) -> int:
    """Return the number of a user's last change, 0 for an unknown user."""
    key = keys.head(user)
    found = items.get([key]).get(key)
    return decode_head(user, found).last_change if found else 0


def count_unpublished(data: Path) -> int:
    """Return the number of changes that are not recorded as published, after a clean stop."""

    async def count() -> int:
        async with open_table(data / FILE, SystemClock()) as table:
            outbox = Store(table, SystemClock()).outbox
            return sum([len(await outbox.list_shard(shard)) for shard in range(SHARDS)])

    return anyio.run(count)


def _read_user(items: ItemFile, data: Path, user: UserId) -> StoredUser | None:
    identity = ConnectionId(user, PROVIDER)
    item_keys = keys.connection(identity), keys.grant(identity), keys.head(user)
    connection, grant, head = (items.get([key]).get(key) for key in item_keys)
    if connection is None or head is None:
        return None
    held = None
    if grant is not None:
        sealed = decode_grant(identity, grant)
        plain = AesGcmSealer([load_or_create_key(data / "token-encryption-key")]).open(
            sealed.sealed, sealed.associated_data(TABLE)
        )
        _, refresh, _ = msgspec.msgpack.decode(plain, type=tuple[str, str, datetime])
        held = StoredGrant(token_hash(refresh), sealed.claim is not None)
    return StoredUser(decode_connection(identity, connection, head), held, decode_head(user, head).last_change)
