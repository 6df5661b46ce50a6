"""``pytest --integration``: tests on a real DynamoDB-compatible server, a real RabbitMQ and a real browser.

The servers are those of DYNAMODB_ENDPOINT and RABBITMQ_URL (a virtual host for tests: it is written to), else started
for the run. An unavailable server is an error of every test that needs it; with ``--integration=possible`` those tests
are left out, and a line reports that.
"""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path

import aioboto3
import msgspec
import pytest

from bg_ingest.adapters.dynamodb import aioboto3_transport, transport
from bg_ingest.adapters.dynamodb.admin import KEY_SCHEMA, KEY_TYPES
from bg_ingest.adapters.dynamodb.table import DynamoTable
from bg_ingest.adapters.dynamodb.transport import Transport
from bg_ingest.store import check_layout
from tests.integration.processes import start_ministack, start_server
from tests.integration.rabbitmq_node import Node, can_run, running_node

HERE = Path(__file__).parent
BROWSER = HERE.parent / "browser"
REGION = "us-east-1"

STARTING_FIXTURES = {"moto_server", "aws", "serve"}

_numbers = count(1)

OpenTransport = Callable[[str, str, aioboto3.Session], AbstractAsyncContextManager[Transport]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--integration",
        nargs="?",
        const="all",
        choices=["all", "possible"],
        help="run also what needs real servers; possible: as far as they can be had here",
    )
    parser.addoption(
        "--unit", action="store_true", help="leave out tests that start a server or a process, and slow ones"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("integration")
        if BROWSER in item.path.parents:
            item.add_marker("browser")
            item.add_marker("process")
        if _starts_process(item):
            item.add_marker("process")
    left_out = [
        item
        for item in items
        if _is_left_out(item, config.getoption("integration"))
        or (config.getoption("unit") and any(item.get_closest_marker(name) for name in ("process", "slow")))
    ]
    items[:] = [item for item in items if item not in set(left_out)]
    config.hook.pytest_deselected(items=left_out)


def pytest_report_header(config: pytest.Config) -> str | None:
    missing = {"rabbitmq-server": not can_run(), "chromium": not has_chromium()}
    packages = " ".join(name for name, is_missing in missing.items() if is_missing)
    if config.getoption("integration") == "possible" and packages:
        return f"left out: tests that need a package (apt-get install --no-install-recommends {packages})"
    return None


def has_chromium() -> bool:
    return shutil.which("chromium") is not None


def _starts_process(item: pytest.Item) -> bool:
    """Return True if the module uses the command harness or ``subprocess``, or the test a fixture that starts one."""
    if set(getattr(item, "fixturenames", ())) & STARTING_FIXTURES:
        return True
    names = vars(getattr(item, "module", object())).values() if hasattr(item, "module") else ()
    return any(value is subprocess or getattr(value, "__module__", None) == "tests.harness.cli" for value in names)


def _is_left_out(item: pytest.Item, choice: str | None) -> bool:
    if item.get_closest_marker("browser"):
        return choice is None or (choice == "possible" and not has_chromium())
    if not item.get_closest_marker("integration"):
        return False
    needs_node = any(name.startswith("rabbitmq") for name in getattr(item, "fixturenames", ()))
    return choice is None or (choice == "possible" and needs_node and not can_run())


def credentials() -> aioboto3.Session:
    """Return the session of tests: emulators accept any credentials, some separate the data by credentials."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):  # noqa: TID251 - of this run of tests, not of a service
        return aioboto3.Session()
    return aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test")


class DynamoServer(msgspec.Struct, frozen=True):
    """A DynamoDB-compatible server on which tests make their own tables."""

    endpoint: str
    aws: aioboto3.Session
    connect: OpenTransport = transport.open_transport

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Transport]:
        async with self.connect(self.endpoint, REGION, self.aws) as client:
            yield client

    @asynccontextmanager
    async def open_table(self, name: str) -> AsyncIterator[DynamoTable]:
        """Open an existing table and check its layout."""
        async with self.client() as client:
            table = DynamoTable(client, name)
            await check_layout(table)
            yield table

    @asynccontextmanager
    async def new_table(self) -> AsyncIterator[DynamoTable]:
        """Open an empty table. Nothing expires in it: tests set their clocks to times long gone."""
        async with self.client() as client:
            name = await make_table(client)
        async with self.open_table(name) as table:
            yield table


async def make_table(client: Transport) -> str:
    name = f"test-{os.getpid()}-{next(_numbers)}"
    await client.call(
        "CreateTable",
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=KEY_SCHEMA,
        AttributeDefinitions=KEY_TYPES,
    )
    return name


@pytest.fixture(scope="session")
def dynamodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamoServer]:
    given = os.environ.get("DYNAMODB_ENDPOINT")  # noqa: TID251 - as above
    if given:
        yield DynamoServer(given, credentials())
        return
    server = start_ministack(tmp_path_factory.mktemp("ministack"))
    with start_server(server):
        yield DynamoServer(f"http://127.0.0.1:{server.port}", credentials())


@pytest.fixture(scope="session")
def dynamodb_by_aioboto3(dynamodb: DynamoServer) -> DynamoServer:
    """Return the same server, reached through aioboto3's client."""
    return msgspec.structs.replace(dynamodb, connect=aioboto3_transport.open_transport)


@pytest.fixture(scope="session")
def rabbitmq_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Run a node that tests may stop and start, independently of RABBITMQ_URL."""
    with running_node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


@pytest.fixture
def rabbitmq_vhost(rabbitmq_node: Node) -> Iterator[str]:
    """Return the URL of a virtual host of our own node, for this test alone."""
    name = f"test/{next(_numbers)}"
    yield rabbitmq_node.vhost(name)
    rabbitmq_node.remove_vhost(name)


@pytest.fixture
def rabbitmq_url(request: pytest.FixtureRequest) -> str:
    given = os.environ.get("RABBITMQ_URL")  # noqa: TID251 - as above
    url: str = given or request.getfixturevalue("rabbitmq_vhost")
    return url
