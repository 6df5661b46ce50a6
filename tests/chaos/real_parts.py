"""The service on real parts: a DynamoDB-compatible server and a RabbitMQ node, each a process of this run's own."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec

from bg_ingest.adapters.dynamodb import open_table
from bg_ingest.adapters.dynamodb.table import DynamoTable
from bg_ingest.adapters.dynamodb.tables import create_table
from bg_ingest.adapters.local.publisher import Event
from bg_ingest.adapters.sealing import KeyRing
from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.connection_records import connection_of, grant_of
from bg_ingest.adapters.table.owners import Addresses, TableOwnership
from bg_ingest.adapters.table.records import head_of
from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId
from bg_ingest.domain.leases import Board
from bg_ingest.kept_secrets import generated_key
from bg_ingest.simulator.journal import token_hash
from tests.chaos.people import Person
from tests.chaos.processes import Process, service_settings
from tests.chaos.report import Report
from tests.chaos.stored import PROVIDER, Held, Stored
from tests.integration.listener import Listener, channel_to
from tests.integration.processes import Server, free_port, ministack, started
from tests.integration.rabbitmq_node import Node, running_node
from tests.integration.servers import REGION, credentials
from tests.sender import SECRET

T = TypeVar("T")

TABLE, QUEUE = "bg-ingest", "chaos"


class Ends(msgspec.Struct, frozen=True):
    """A user's changes as they are stored: the last number by the head, and the numbers there are."""

    last: int
    numbers: list[int]


class RealParts:
    """The store and the broker, reached past the service."""

    def __init__(self, place: Path, dynamodb: Server, node: Node) -> None:
        self.dynamodb = dynamodb
        self.node = node
        self.url = node.vhost("chaos")
        self.data = place / "data"
        self._place = place

    def service(self, store_port: int, name: str = "service", **settings: str) -> Process:
        """Return ``bg-ingest run`` on these parts, its store reached by this port; all of them share a key."""
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
        given = service_settings(self._place, port) | parts | settings
        return Process(self._place, name, "bg_ingest.cli", "run", port=port, **given)

    def told(self) -> list[Event]:
        """Take what the queue holds, as a plain consumer."""

        async def take() -> list[Event]:
            async with channel_to(self.url) as channel:
                return await Listener(channel, QUEUE).take_all()

        return anyio.run(take)

    def after_kill(self, people: Sequence[Person]) -> dict[str, Stored]:
        """Return what a killed process left of those who are connected."""
        ring = KeyRing([generated_key(self.data / "token-encryption-key")])

        async def read() -> dict[str, Stored]:
            async with self._table() as table:
                return {each.user: found for each in people if (found := await _of(table, ring, UserId(each.user)))}

        return anyio.run(read)

    def board(self) -> Board:
        """Return who serves which shard."""

        async def read() -> Board:
            async with self._table() as table:
                return await TableOwnership(table, Addresses()).board()

        return anyio.run(read)

    def ends(self, people: Sequence[Person]) -> dict[str, Ends]:
        async def read() -> dict[str, Ends]:
            async with self._table() as table:
                return {each.user: await _ends(table, UserId(each.user)) for each in people}

        return anyio.run(read)

    def waiting(self) -> int:
        """Return how many changes wait to be told."""

        async def count() -> int:
            async with self._table() as table:
                return sum([await _count(table, keys.outbox_pk(shard), "0", "~") for shard in range(SHARDS)])

        return anyio.run(count)

    @asynccontextmanager
    async def _table(self) -> AsyncIterator[DynamoTable]:
        endpoint = f"http://127.0.0.1:{self.dynamodb.port}"
        async with open_table(endpoint, REGION, TABLE, aws=credentials()) as table:
            yield table


async def _of(table: DynamoTable, ring: KeyRing, user: UserId) -> Stored | None:
    identity = ConnectionId(user, PROVIDER)
    wanted = keys.connection(identity), keys.grant(identity), keys.head(user)
    items = await table.batch_get(wanted)
    connection, grant, head = (items.get(key) for key in wanted)
    if connection is None or head is None:
        return None
    held = None
    if grant is not None:
        sealed = grant_of(identity, grant)
        content = ring.open(sealed.sealed, sealed.associated_data(TABLE))
        refresh = msgspec.msgpack.decode(content)[1]
        held = Held(token_hash(refresh), sealed.claim is not None, sealed.refusals, sealed.retry_at)
    return Stored(connection_of(identity, connection), held, head_of(user, head).last_change)


async def _ends(table: DynamoTable, user: UserId) -> Ends:
    head = await table.get(keys.head(user))
    low, high = keys.change(user, 0)[1], "change#~"
    numbers = [
        int(key[1].partition("#")[2])
        async for page in table.query(keys.user_pk(user), low, high, page=1000)
        for key, _ in page
    ]
    return Ends(head_of(user, head).last_change if head else 0, numbers)


async def _count(table: DynamoTable, pk: str, low: str, high: str) -> int:
    return sum([len(page) async for page in table.query(pk, low, high, page=1000)])


def judge_ends(report: Report, parts: RealParts, people: Sequence[Person]) -> dict[str, int]:
    """Check after a stop that changes are contiguous and nothing waits; return each user's last number."""
    ends = parts.ends(people)
    broken = [user for user, found in ends.items() if found.numbers != list(range(1, found.last + 1))]
    report.figure("changes", sum(each.last for each in ends.values()))
    report.check("users whose changes are not 1 to n", len(broken), holds=not broken, wanted="0")
    left = parts.waiting()
    report.check("changes that wait to be told", left, holds=not left, wanted="0")
    return {user: found.last for user, found in ends.items()}


@contextmanager
def real_parts(place: Path) -> Iterator[RealParts]:
    """Run both; what the store holds survives a stop by SIGTERM."""
    folder = place / "ministack"
    dynamodb = ministack(folder, PERSIST_STATE="1", STATE_DIR=str(folder / "state"))
    with started(dynamodb), running_node(place / "rabbitmq") as node:
        endpoint = f"http://127.0.0.1:{dynamodb.port}"

        async def make() -> None:
            await create_table(endpoint, REGION, TABLE, aws=credentials())

        anyio.run(make)
        yield RealParts(place, dynamodb, node)
