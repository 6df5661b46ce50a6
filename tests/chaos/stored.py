"""What stands in the store's file, read past the service: after a kill from a copy, so that nothing is mended."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.sealing import KeyRing
from bg_ingest.adapters.sqlite.file import ItemFile
from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.connection_records import connection_of, grant_of
from bg_ingest.adapters.table.records import head_of
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId
from bg_ingest.kept_secrets import generated_key
from bg_ingest.simulator.journal import token_hash

PROVIDER = "dexcom"
FILE = "bg-ingest.sqlite"
TABLE = "bg-ingest"


class Held(msgspec.Struct, frozen=True):
    """A stored grant: its refresh token by hash, whether somebody claims it, and how often it was refused."""

    refresh: str
    claimed: bool
    refusals: int = 0
    retry_at: datetime | None = None


class Stored(msgspec.Struct, frozen=True):
    """What is stored of one user."""

    connection: Connection
    grant: Held | None
    last_change: int


def after_kill(data: Path, users: Sequence[str]) -> dict[str, Stored]:
    """Return what a killed process left of those users who are connected. ``data`` is its DATA_DIR."""
    with tempfile.TemporaryDirectory() as place:
        for file in data.glob(f"{FILE}*"):
            if not file.name.endswith(".lock"):
                shutil.copy(file, place)
        if not (Path(place) / FILE).exists():
            return {}
        with opened(Path(place)) as items:
            return {user: found for user in users if (found := _of(items, data, UserId(user)))}


@contextmanager
def opened(data: Path) -> Iterator[ItemFile]:
    """Open the file of a process that has ended."""
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
    """Return the number of a user's last change, 0 for who is unknown."""
    key = keys.head(user)
    found = items.get([key]).get(key)
    return head_of(user, found).last_change if found else 0


def waiting(items: ItemFile) -> int:
    """Return how many changes wait to be told (of each shard at most a thousand are counted)."""
    return sum(len(items.page(keys.outbox_pk(shard), "0", "~", 1000, after=False)) for shard in range(SHARDS))


def _of(items: ItemFile, data: Path, user: UserId) -> Stored | None:
    identity = ConnectionId(user, PROVIDER)
    wanted = keys.connection(identity), keys.grant(identity), keys.head(user)
    connection, grant, head = (items.get([key]).get(key) for key in wanted)
    if connection is None or head is None:
        return None
    held = None
    if grant is not None:
        sealed = grant_of(identity, grant)
        plain = KeyRing([generated_key(data / "token-encryption-key")]).open(
            sealed.sealed, sealed.associated_data(TABLE)
        )
        _, refresh, _ = msgspec.msgpack.decode(plain, type=tuple[str, str, datetime])
        held = Held(token_hash(refresh), sealed.claim is not None)
    return Stored(connection_of(identity, connection), held, head_of(user, head).last_change)
