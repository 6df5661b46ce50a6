"""One of several processes that write one user's readings concurrently: ``python -m tests.integration.writer``."""

import sys
from random import Random

import anyio

from bg_ingest.store import Store
from tests.contracts.test_races import batches_of, write_all
from tests.fakes.clock import SetClock
from tests.integration.servers import DynamoServer, credentials
from tests.integration.test_dynamodb import WRITERS


async def main(endpoint: str, table: str, part: int) -> None:
    async with DynamoServer(endpoint, credentials()).open_table(table) as opened:
        await write_all(Store(opened, SetClock()), batches_of(Random(0))[part * WRITERS : (part + 1) * WRITERS])


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
