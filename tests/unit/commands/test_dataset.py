"""``bg-ingest dataset``: parts and a manifest, the same after a kill, and sentences for wrong usage."""

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet
import pytest

from bg_ingest.commands import dataset_parts
from bg_ingest.commands.dataset_parts import USERS_PER_PART, DatasetFolder, Options
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import NotFound
from tests.fakes.clock import NOON
from tests.harness.api import ApiHarness, open_api, reading
from tests.harness.cli import run_bg_ingest
from tests.harness.dataset_writer import USERS

ROOT = Path(__file__).parents[3]
ADA, BEN, EVA = map(UserId, ("ada", "ben", "eva"))
OPTIONS = Options(NOON - timedelta(days=3), None, None, "last", None)


@pytest.fixture
def anyio_backend() -> str:
    """Real time: a loop in virtual time does not wait for the thread that writes the file."""
    return "asyncio"


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiHarness]:
    monkeypatch.setattr(dataset_parts, "USERS_PER_PART", 2)
    async with open_api() as opened:
        for index, user in enumerate((EVA, ADA, BEN)):
            await opened.services.store.users.add(user)
            await opened.add_readings(*(reading(-number, 100 + index) for number in range(1, 30)), user=user)
        await opened.add_readings(reading(-3, 300), user=BEN)
        opened.clock.advance(timedelta(minutes=2))
        yield opened


async def write(api: ApiHarness, folder: Path, options: Options = OPTIONS) -> dict[str, Any]:
    target = DatasetFolder(folder)
    plan = target.read_plan(options) or await target.start(options, api.services)
    await target.write(plan, api.services, lambda: None)
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


async def manifest_of_api(api: ApiHarness, users: list[str], as_of: str, **others: str) -> dict[str, Any]:
    body = {"users": users, "from": "2026-02-27T12:00:00Z", "as_of": as_of, **others}
    answer: dict[str, Any] = (
        await api.http.post("/api/dataset", json=body, headers={"Accept": "application/json"})
    ).json()
    return answer


@pytest.mark.parametrize("versions", ["last", "all"])
async def test_parts_have_the_digests_of_the_api_and_the_manifest_appears_last(
    api: ApiHarness, tmp_path: Path, versions: str
) -> None:
    folder = tmp_path / "data"
    manifest = await write(api, folder, msgspec.structs.replace(OPTIONS, versions=versions))
    assert sorted(file.name for file in folder.iterdir()) == [
        "manifest.json",
        "part-00000.parquet",
        "part-00001.parquet",
    ]
    assert manifest["users"] == ["ada", "ben", "eva"]
    for part, users in zip(manifest["parts"], (["ada", "ben"], ["eva"]), strict=True):
        expected = await manifest_of_api(api, users, manifest["as_of"], versions=versions)
        assert part == {
            "file": part["file"],
            "rows": expected["rows"],
            "users": expected["users"],
            "digest": expected["digest"],
        }
        table = pyarrow.parquet.read_table(folder / part["file"])
        assert table.num_rows == part["rows"]
    assert manifest["rows"] == sum(part["rows"] for part in manifest["parts"]) == 87 + (versions == "all")


async def test_whole_parts_stay_and_the_time_of_the_first_run_counts(api: ApiHarness, tmp_path: Path) -> None:
    whole = await write(api, tmp_path / "whole")
    folder, target = tmp_path / "data", DatasetFolder(tmp_path / "data")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await target.write(await target.start(OPTIONS, api.services), api.services, stop)
    assert not (folder / "manifest.json").exists()
    first = (folder / "part-00000.parquet").stat()
    await api.add_readings(reading(-100, 50), user=EVA)
    api.clock.advance(timedelta(hours=1))
    assert await write(api, folder) == whole
    assert (folder / "part-00000.parquet").stat() == first
    assert await write(api, folder) == whole


async def test_a_directory_with_something_else_is_refused(api: ApiHarness, tmp_path: Path) -> None:
    await write(api, tmp_path / "data")
    for others in ({"versions": "all"}, {"users": (ADA,)}, {"start": NOON}, {"end": NOON}, {"as_of": NOON}):
        with pytest.raises(ValueError, match="holds another dataset"):
            DatasetFolder(tmp_path / "data").read_plan(msgspec.structs.replace(OPTIONS, **others))
    with pytest.raises(ValueError, match="not empty"):
        DatasetFolder(tmp_path).read_plan(OPTIONS)


async def test_unknown_users_are_named_before_anything_is_written(api: ApiHarness, tmp_path: Path) -> None:
    options = msgspec.structs.replace(OPTIONS, users=(ADA, UserId("zoe")))
    with pytest.raises(NotFound, match="zoe"):
        await DatasetFolder(tmp_path / "data").start(options, api.services)
    many = tuple(UserId(f"unknown-{number}") for number in range(USERS_PER_PART + 1))
    with pytest.raises(NotFound, match=f"{len(many)} users are unknown"):
        await DatasetFolder(tmp_path / "data").start(msgspec.structs.replace(OPTIONS, users=many), api.services)
    assert not (tmp_path / "data").exists()


async def test_an_erased_user_has_no_rows_in_a_continued_run(api: ApiHarness, tmp_path: Path) -> None:
    target = DatasetFolder(tmp_path / "data")
    plan = await target.start(OPTIONS, api.services)
    await api.services.eraser.erase(EVA)
    done = await target.write(plan, api.services, lambda: None)
    assert [(user.user_id, user.rows, user.change) for user in done.parts[1].users] == [(EVA, 0, None)]


@pytest.mark.process
@pytest.mark.slow
def test_a_killed_run_is_continued_with_the_same_digests(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.harness.dataset_writer"]
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, str(whole)], cwd=ROOT, check=True, capture_output=True, timeout=60)
    for wait in (0.0, 0.02, 0.05):
        with subprocess.Popen([*command, str(folder)], cwd=ROOT, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            running.stdout.readline()
            time.sleep(wait)
            running.kill()
    subprocess.run([*command, str(folder)], cwd=ROOT, check=True, capture_output=True, timeout=60)
    manifests = [json.loads((each / "manifest.json").read_text()) for each in (whole, folder)]
    assert manifests[0] == manifests[1]
    assert len(manifests[0]["parts"]) == len(USERS) / 2
    assert not [file for file in folder.iterdir() if file.suffix not in {".json", ".parquet"}]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--from", "2026-01-01", "--out", "d"], "either --users FILE or --all"),
        (["--all", "--users", "f", "--from", "2026-01-01", "--out", "d"], "either --users FILE or --all"),
        (["--all", "--out", "d"], "Give --from"),
        (["--all", "--from", "2026-01-02", "--to", "2026-01-01", "--out", "d"], "before --to"),
        (["--all", "--from", "2026-01-02", "--as-of", "2999-01-01", "--out", "d"], "at least a minute ago"),
        (["--users", "missing", "--from", "2026-01-02", "--out", "d"], "cannot be read"),
        (["--all", "--from", "2026-01-02", "--out", "."], "not empty"),
    ],
    ids=str,
)
@pytest.mark.process
def test_wrong_usage_is_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "file").touch()
    done = run_bg_ingest(tmp_path, "dataset", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.process
def test_a_store_without_users_gives_an_empty_dataset(tmp_path: Path) -> None:
    done = run_bg_ingest(tmp_path, "dataset", "--all", "--from", "2026-01-01", "--out", "data")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0 rows of 0 users, 0 parts: data/manifest.json\n"
    (tmp_path / "users").write_text("zoe\n")
    unknown = run_bg_ingest(tmp_path, "dataset", "--users", "users", "--from", "2026-01-01", "--out", "other")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "zoe" in unknown.stderr
