"""Checks of the store: the table, the rights on it, and the keys of the stored grants."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from secrets import token_hex

from bg_ingest.adapters.aws.session import get_session
from bg_ingest.adapters.dynamodb.admin import inspect_table
from bg_ingest.doctor import Finding, failed, ok, warning
from bg_ingest.doctor.local import check_access
from bg_ingest.domain.access import audit_key_seal_data
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import SHARDS
from bg_ingest.errors import IngestError, KeyUnavailable, SealBroken, StoreError, StoreLocked, TableMissing
from bg_ingest.ports import Clock, Sealer
from bg_ingest.ports.table import Absent, Check, Delete, Exists, Item, Put, Table, Update
from bg_ingest.setting_types import WrappedKey
from bg_ingest.settings import Settings, SettingsError
from bg_ingest.store import Store
from bg_ingest.store.changes import CHANGE_RETENTION
from bg_ingest.store.outbox import OutboxStore
from bg_ingest.store.published import MAX_UNWRITTEN_SECONDS
from bg_ingest.wiring.keys import build_sealer
from bg_ingest.wiring.store import creates_table, open_for_inspection

RIGHTS = (
    *("GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"),
    "ConditionCheckItem",
)
"""Rights that the service's identity needs on the table in DynamoDB. A key rotation also needs ``Scan``."""

REACH_ADVICE = (
    "check DYNAMODB_ENDPOINT, DYNAMODB_TABLE, AWS_REGION, network and proxy, the AWS credentials, and their rights: "
    + ", ".join(RIGHTS)
)

KEY_ADVICE = "add the missing key to TOKEN_ENCRYPTION_KEYS again, behind the first"

MAX_TRIED_GRANTS = 20
"""Maximum number of grants that are tried, at most one per shard."""

MAX_OUTBOX_AGE = timedelta(minutes=5)
"""Age from which unpublished changes are reported. Younger ones may only be waiting for the next pass of the relay."""

RECORDED_AFTER = timedelta(seconds=MAX_UNWRITTEN_SECONDS) + MAX_OUTBOX_AGE
"""Age by which the publication of a user's last change is recorded, unless the next change records it earlier."""


async def check_table(settings: Settings) -> list[Finding]:
    """Check the options of the table in DynamoDB; SQLite has none."""
    if settings.dynamodb_table is None:
        return []
    try:
        inspected = await inspect_table(
            settings.dynamodb_endpoint, settings.aws_region, settings.dynamodb_table, get_session()
        )
    except TableMissing as error:
        if creates_table(settings):
            return [warning("table", f"no table {settings.dynamodb_table}", "the first start creates it")]
        return [failed("table", str(error), REACH_ADVICE)]
    except StoreError as error:
        return [failed("table", str(error), REACH_ADVICE)]
    advice = "run bg-ingest tables create"
    return [ok("table", state) if is_right else warning("table", state, advice) for state, is_right in inspected]


async def check_store(settings: Settings, clock: Clock) -> list[Finding]:
    """Open the store; check the rights on it, the keys of its grants, access to the API, and unpublished changes."""
    try:
        async with open_for_inspection(settings) as (table, store):
            now = clock.now()
            findings = [*await check_rights(table, now), *await _check_sealer(settings, store)]
            findings += await check_access(settings, store.keys, now)
            return findings + await check_outbox(store.outbox, now)
    except StoreLocked:
        return [ok("store", f"{settings.sqlite_file} is in use by the running service, which reports its own state")]
    except TableMissing as error:
        return [] if creates_table(settings) else [failed("store", str(error), REACH_ADVICE)]
    except (IngestError, SettingsError) as error:
        advice = REACH_ADVICE if settings.dynamodb_table else "check DATA_DIR and its permissions"
        return [failed("store", str(error), advice)]


async def check_rights(table: Table, now: datetime) -> list[Finding]:
    """Make each kind of call once, on two temporary items. If they cannot be deleted, they expire after an hour."""
    key, other = ("doctor", token_hex(8)), ("doctor", token_hex(8))
    item = Item(v=1, expires_at=int(now.timestamp()) + 3600)
    leftovers: list[Item] = []

    async def search() -> None:
        for pk, sk in (key, other):
            async with aclosing(table.query(pk, sk, sk)) as pages:
                leftovers.extend([item async for page in pages for _, item in page])

    kinds: dict[str, Callable[[], Awaitable[object]]] = {
        "write": lambda: table.write(Put(key, item, (Absent(),))),
        "update": lambda: table.write(Update(key, item, (), (Exists(),))),
        "read": lambda: table.get(key),
        "read several items at once": lambda: table.batch_get([key]),
        "write in a transaction": lambda: table.transact([Put(other, item, (Absent(),)), Check(key, (Exists(),))]),
        "delete": lambda: table.write(Delete(key)),
        "delete several items at once": lambda: table.delete([other]),
        "query": search,
    }
    for kind, call in kinds.items():
        try:
            await call()
        except StoreError as error:
            advice = f"give this identity the rights {', '.join(RIGHTS)}"
            return [failed("store", f"this identity cannot {kind}: {error}", advice)]
    if leftovers:
        return [failed("store", "deleted items are still there", "check that DYNAMODB_ENDPOINT is DynamoDB")]
    return [ok("store", "reads, writes and transactions work")]


async def _check_sealer(settings: Settings, store: Store) -> list[Finding]:
    try:
        sealer = await build_sealer(settings)
    except KeyUnavailable as error:
        return [failed("keys", error.problem, error.advice)]
    findings = await check_keys(store, sealer, settings.dynamodb_table or "bg-ingest")
    keys = settings.token_encryption_keys
    if wrapped := sum(isinstance(key, WrappedKey) for key in keys):
        findings.insert(0, ok("keys", f"AWS KMS unwraps {wrapped} of {len(keys)}"))
    return findings


async def check_keys(store: Store, sealer: Sealer, table: str) -> list[Finding]:
    """Open some of the stored grants, and the key of the audit log: each opens only with the key that sealed it."""
    opened = unreadable = 0
    async for grant in _sample_grants(store):
        try:
            sealer.open(grant.sealed, grant.associated_data(table))
            opened += 1
        except SealBroken:
            unreadable += 1
    if unreadable:
        return [failed("keys", f"{unreadable} of {unreadable + opened} stored grants do not open", KEY_ADVICE)]
    sealed = await store.audit.find_hash_key()
    try:
        if sealed is not None:
            sealer.open(sealed, audit_key_seal_data(table))
    except SealBroken:
        return [failed("keys", "the key of the audit does not open", KEY_ADVICE)]
    return [
        ok("keys", f"they open all of {opened} stored grants that were tried" if opened else "no grants stored yet")
    ]


async def check_outbox(outbox: OutboxStore, now: datetime) -> list[Finding]:
    """Warn if changes have been unpublished for at least ``MAX_OUTBOX_AGE``. Only the first of each user is read."""
    oldest = now
    for shard in range(SHARDS):
        entries = await outbox.list_shard(shard)
        last = {entry.user: entry for entry in entries}
        first = {entry.user: entry for entry in reversed(entries)}
        changes = await outbox.changes(first.values())
        for user, entry in first.items():
            # the change of an entry is missing only if it has expired
            recorded_at = changes[entry].recorded_at if entry in changes else now - CHANGE_RETENTION
            if last[user] is not entry or now - recorded_at > RECORDED_AFTER:
                oldest = min(oldest, recorded_at)
    if now - oldest < MAX_OUTBOX_AGE:
        return []
    advice = "start the service; if it runs, see the field degraded of /health/ready: the queue may be full"
    return [warning("outbox", f"changes wait to be published since {oldest:%Y-%m-%d %H:%M} UTC", advice)]


async def _sample_grants(store: Store) -> AsyncIterator[Grant]:
    tried = 0
    for shard in range(SHARDS):
        async with aclosing(store.connections.iter_directory(shard)) as rows:
            async for row in rows:
                _, grant = await store.connections.get_with_grant(row.id)
                if grant is not None:
                    yield grant
                    tried += 1
                break
        if tried == MAX_TRIED_GRANTS:
            return
