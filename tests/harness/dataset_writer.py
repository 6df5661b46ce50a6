"""Program that writes a dataset of users in memory with small parts, so that a test can kill it and start it again."""

import sys
from datetime import timedelta
from pathlib import Path

import anyio

from bg_ingest.commands import dataset_parts
from bg_ingest.commands.dataset_parts import DatasetFolder, Options
from bg_ingest.domain.ids import UserId
from tests.fakes.clock import NOON
from tests.harness.api import ApiHarness, open_api, reading

USERS = tuple(UserId(f"user-{number:02}") for number in range(24))
OPTIONS = Options(NOON - timedelta(days=3), None, None, "last", USERS)
USERS_PER_PART = 2


async def fill(api: ApiHarness) -> None:
    """Store the same readings in each process. Two minutes pass, so that their second is final."""
    for index, user in enumerate(USERS):
        await api.add_readings(*(reading(-number, 80 + (index + number) % 90) for number in range(1, 400)), user=user)
    api.clock.advance(timedelta(minutes=2))


async def main(folder: str) -> None:
    dataset_parts.USERS_PER_PART = USERS_PER_PART
    async with open_api() as api:
        await fill(api)
        target = DatasetFolder(Path(folder))
        plan = target.read_plan(OPTIONS)
        api.clock.advance(timedelta(hours=plan is not None))  # a later run has a later time
        plan = plan or await target.start(OPTIONS, api.services)
        print("ready", flush=True)  # noqa: T201 - read by the test
        await target.write(plan, api.services, lambda: None)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
