"""Service on real parts: a DynamoDB-compatible server and a RabbitMQ node, each a process of this run's own."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.dynamodb.admin import create_table
from bg_ingest.adapters.dynamodb.table import DynamoTable
from bg_ingest.adapters.memory import Event
from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId
from bg_ingest.domain.ownership import OwnershipSnapshot
from bg_ingest.settings.secrets import load_or_create_key
from bg_ingest.simulator.journal import token_hash
from bg_ingest.store import Store, keys
from bg_ingest.store.connections import decode_connection
from bg_ingest.store.grants import decode_grant
from bg_ingest.store.head import decode_head
from bg_ingest.store.inbox import ShardAddresses
from bg_ingest.store.ownership import OwnershipStore
from tests.harness.webhook_sender import SECRET
from tests.integration.listener import Listener, channel_to
from tests.integration.processes import Server, free_port, start_ministack, start_server
from tests.integration.rabbitmq_node import Node, running_node
from tests.integration.servers import REGION, DynamoServer, credentials
from tests.long.chaos.processes import Process, service_settings
from tests.long.chaos.report import Report
from tests.long.chaos.store_dump import PROVIDER, StoredGrant, StoredUser
from tests.long.chaos.users import SimulatedUser

T = TypeVar("T")

TABLE, QUEUE = "bg-ingest", "chaos"


class OutboxEnds(msgspec.Struct, frozen=True):
    """A user's stored changes: the last number according to the head, and all stored numbers."""

    last: int
    numbers: list[int]


class RealParts:
    """Direct access to the store and the broker, without the service."""

    def __init__(self, directory: Path, dynamodb: Server, node: Node) -> None:
        self.dynamodb = dynamodb
        self.node = node
        self.url = node.vhost("chaos")
        self.data = directory / "data"
        self._folder = directory

    def service(
        self, store_port: int, name: str = "service", *, module: str = "bg_ingest.cli", **settings: str
    ) -> Process:
        """Return ``bg-ingest run`` on these parts, with the store at this port; all replicas share a key."""
        port = free_port()
        parts = {
            "DYNAMODB_ENDPOINT": f"http://127.0.0.1:{store_port}",
            "DYNAMODB_TABLE": TABLE,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "RABBITMQ_URL": self.url,
            "RABBITMQ_QUEUE": QUEUE,
            "WEBHOOK_SIGNING_SECRETS": SECRET,
        }
        given = service_settings(self._folder, port) | parts | settings
        return Process(self._folder, name, module, "run", port=port, **given)

    def events(self) -> list[Event]:
        """Take the content of the queue, as a plain consumer."""

        async def take() -> list[Event]:
            async with channel_to(self.url) as channel:
                return await Listener(channel, QUEUE).take_all()

        return anyio.run(take)

    def after_kill(self, users: Sequence[SimulatedUser]) -> dict[str, StoredUser]:
        """Return the stored state of connected users after a kill."""
        key_ring = AesGcmSealer([load_or_create_key(self.data / "token-encryption-key")])

        async def read() -> dict[str, StoredUser]:
            async with self._table() as table:
                return {
                    each.user: found
                    for each in users
                    if (found := await _read_stored(table, key_ring, UserId(each.user)))
                }

        return anyio.run(read)

    def snapshot(self) -> OwnershipSnapshot:
        """Return the owner of each shard."""

        async def read() -> OwnershipSnapshot:
            async with self._table() as table:
                return await OwnershipStore(table, ShardAddresses()).snapshot()

        return anyio.run(read)

    def ends(self, users: Sequence[SimulatedUser]) -> dict[str, OutboxEnds]:
        async def read() -> dict[str, OutboxEnds]:
            async with self._table() as table:
                return {each.user: await _ends(table, UserId(each.user)) for each in users}

        return anyio.run(read)

    def waiting(self) -> int:
        """Return the number of unpublished changes."""

        async def count() -> int:
            async with self._table() as table:
                outbox = Store(table, SystemClock()).outbox
                return sum([len(await outbox.list_shard(shard)) for shard in range(SHARDS)])

        return anyio.run(count)

    @asynccontextmanager
    async def _table(self) -> AsyncIterator[DynamoTable]:
        endpoint = f"http://127.0.0.1:{self.dynamodb.port}"
        async with DynamoServer(endpoint, credentials()).open_table(TABLE) as table:
            yield table


async def _read_stored(table: DynamoTable, key_ring: AesGcmSealer, user: UserId) -> StoredUser | None:
    identity = ConnectionId(user, PROVIDER)
    item_keys = keys.connection(identity), keys.grant(identity), keys.head(user)
    items = await table.batch_get(item_keys)
    connection, grant, head = (items.get(key) for key in item_keys)
    if connection is None or head is None:
        return None
    held = None
    if grant is not None:
        sealed = decode_grant(identity, grant)
        content = key_ring.open(sealed.sealed, sealed.associated_data(TABLE))
        refresh = msgspec.msgpack.decode(content)[1]
        held = StoredGrant(token_hash(refresh), sealed.claim is not None, sealed.refusals, sealed.retry_at)
    return StoredUser(decode_connection(identity, connection, head), held, decode_head(user, head).last_change)


async def _ends(table: DynamoTable, user: UserId) -> OutboxEnds:
    head = await table.get(keys.head(user))
    low, high = keys.change(user, 0)[1], "change#~"
    numbers = [
        int(key[1].partition("#")[2])
        async for page in table.query(keys.user_pk(user), low, high, page=1000)
        for key, _ in page
    ]
    return OutboxEnds(decode_head(user, head).last_change if head else 0, numbers)


def check_outbox_ends(report: Report, parts: RealParts, users: Sequence[SimulatedUser]) -> dict[str, int]:
    """Check after a stop that changes are contiguous and published; return each user's last number."""
    ends = parts.ends(users)
    broken = [user for user, found in ends.items() if found.numbers != list(range(1, found.last + 1))]
    report.figure("changes", sum(each.last for each in ends.values()))
    report.check("users whose changes are not 1 to n", len(broken), holds=not broken, expected="0")
    left = parts.waiting()
    report.check("unpublished changes", left, holds=not left, expected="0")
    return {user: found.last for user, found in ends.items()}


@contextmanager
def real_parts(directory: Path) -> Iterator[RealParts]:
    """Run both; the store's content survives a stop by SIGTERM."""
    folder = directory / "ministack"
    dynamodb = start_ministack(folder, PERSIST_STATE="1", STATE_DIR=str(folder / "state"))
    with start_server(dynamodb), running_node(directory / "rabbitmq") as node:
        endpoint = f"http://127.0.0.1:{dynamodb.port}"

        async def make() -> None:
            await create_table(endpoint, REGION, TABLE, credentials())

        anyio.run(make)
        yield RealParts(directory, dynamodb, node)
