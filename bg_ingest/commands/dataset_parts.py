"""Directory of a dataset: parts of 1,000 users and a manifest. The next run continues a killed run.

Each file gets its name once it is complete. The plan of an unfinished dataset holds its users and its ``as_of`` time.
Complete parts of a killed run stay. A part that is written again has the same data.
"""

import os
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec.structs import replace

from bg_ingest.domain.datasets import (
    DatasetRequest,
    DatasetUser,
    Manifest,
    ceil_to_second,
    describe,
    newest_final_second,
)
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.windows import Window
from bg_ingest.errors import NotFound
from bg_ingest.ports import ColumnarForm
from bg_ingest.services import Services
from bg_ingest.services.queries.users import UserCursor

USERS_PER_PART = 1_000
MAX_NAMED = 5
"""Maximum number of unknown users that an error names."""


class Options(msgspec.Struct, frozen=True):
    """Arguments of a command. An argument that was not given is None."""

    start: datetime
    end: datetime | None
    as_of: datetime | None
    versions: str
    users: tuple[UserId, ...] | None
    """All users if None."""


class Part(msgspec.Struct, frozen=True):
    """A complete file of the dataset."""

    file: str
    rows: int
    users: tuple[DatasetUser, ...]
    digest: str


class Plan(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Request of a dataset, and its complete parts."""

    as_of: datetime
    from_: datetime
    to: datetime
    versions: str
    users: tuple[UserId, ...]
    parts: tuple[Part, ...] = ()

    @property
    def number_of_parts(self) -> int:
        return -(-len(self.users) // USERS_PER_PART)

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    def request(self, number: int) -> DatasetRequest:
        """Return the request of a part."""
        users = self.users[number * USERS_PER_PART : (number + 1) * USERS_PER_PART]
        all_versions = all_devices = self.versions == "all"
        return DatasetRequest(users, Window(self.from_, self.to), self.as_of, all_versions, all_devices)

    def matches(self, options: Options) -> bool:
        """Return whether the arguments of a command ask for this dataset."""
        return (
            self.from_ == ceil_to_second(options.start)
            and self.versions == options.versions
            and (options.end is None or self.to == ceil_to_second(options.end))
            and (options.as_of is None or self.as_of == options.as_of.replace(microsecond=0))
            and (options.users is None or self.users == options.users)
        )


class DatasetFolder:
    """Directory of one dataset."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.manifest_file = folder / "manifest.json"
        self._plan_file = folder / "unfinished.json"

    def read_plan(self, options: Options) -> Plan | None:
        """Return the plan of an earlier run, None if there was none; ValueError if the directory has other content."""
        if not self._folder.exists() or not any(self._folder.iterdir()):
            return None
        file = self.manifest_file if self.manifest_file.exists() else self._plan_file
        try:
            plan = msgspec.json.decode(file.read_bytes(), type=Plan)
        except (FileNotFoundError, msgspec.DecodeError):
            raise ValueError(f"{self._folder} is not empty: choose a new directory with --out.") from None
        if not plan.matches(options):
            raise ValueError(f"{self._folder} holds another dataset: choose a new directory with --out.")
        return plan

    async def start(self, options: Options, services: Services) -> Plan:
        """Return the plan of a new dataset; NotFound if a user is unknown."""
        users = await _list_users(services) if options.users is None else options.users
        if options.users is not None:
            await _check_users(options.users, services)
        as_of = options.as_of.replace(microsecond=0) if options.as_of else newest_final_second(services.clock.now())
        end = ceil_to_second(options.end) if options.end else as_of
        plan = Plan(as_of, ceil_to_second(options.start), end, options.versions, users)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write_json(self._plan_file, plan)
        return plan

    async def write(self, plan: Plan, services: Services, on_part: Callable[[], None]) -> Plan:
        """Write the missing parts and the manifest, and return the complete plan."""
        for number in range(len(plan.parts), plan.number_of_parts):
            part = await self._write_part(f"part-{number:05}.parquet", plan.request(number), services)
            plan = replace(plan, parts=(*plan.parts, part))
            self._write_json(self._plan_file, plan)
            on_part()
        made_by = services.datasets.made_by
        manifest = msgspec.to_builtins(describe(replace(plan.request(0), users=plan.users), made_by))
        manifest |= {"users": plan.users, "rows": plan.rows, "parts": plan.parts}
        if not self.manifest_file.exists():
            self._write_json(self.manifest_file, manifest)
        self._plan_file.unlink(missing_ok=True)
        return plan

    async def _write_part(self, name: str, request: DatasetRequest, services: Services) -> Part:
        dataset = services.datasets.open(request)
        chunks = services.columnar.encode(
            ColumnarForm.PARQUET, dataset.columns, dataset.column_batches(), dataset.metadata
        )
        unfinished = self._folder / f"{name}.unfinished"
        with unfinished.open("wb") as file:
            async with aclosing(chunks):
                async for chunk in chunks:
                    file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._folder / name)
        match dataset.manifest:
            case Manifest(rows=int() as rows, users=users, digest=str() as digest):
                return Part(name, rows, users, digest)
        raise AssertionError("the manifest is complete after the last row")

    def _write_json(self, file: Path, content: object) -> None:
        unfinished = file.with_suffix(".tmp")
        with unfinished.open("wb") as output:
            output.write(msgspec.json.encode(content))
            output.flush()
            os.fsync(output.fileno())
        unfinished.rename(file)


async def _list_users(services: Services) -> tuple[UserId, ...]:
    users: list[UserId] = []
    cursor, more = UserCursor(), True
    while more:
        page = await services.user_list.page(cursor, USERS_PER_PART)
        users += page.users
        cursor, more = page.after, page.more
    return tuple(sorted(users))


async def _check_users(users: tuple[UserId, ...], services: Services) -> None:
    unknown: list[UserId] = []
    for first in range(0, len(users), USERS_PER_PART):
        unknown += await services.datasets.find_unknown(users[first : first + USERS_PER_PART])
    if unknown:
        names = ", ".join(unknown[:MAX_NAMED])
        raise NotFound(f"{len(unknown)} users are unknown: take them out of the file. The first are {names}.")
