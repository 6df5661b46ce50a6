"""``bg-ingest backfill`` and ``verify``: beside a running service that has the store's file open, and used wrongly."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bg_ingest.commands.history import summarize
from bg_ingest.domain.verification import Verification
from bg_ingest.domain.windows import Window
from tests.harness.cli import RunningCommand, run_bg_ingest, run_on_terminal
from tests.harness.web import web

DAY = timedelta(days=1)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[RunningCommand]:
    running = RunningCommand(tmp_path, "demo", BACKFILL_DAYS="4")
    try:
        running.until(lambda: running.answers("/api/bg/ada/latest"), 60)
        yield running
    finally:
        running.stop()


def test_both_work_beside_the_running_service_that_holds_the_file(demo: RunningCommand, tmp_path: Path) -> None:
    port = str(demo.port)
    since = f"{datetime.now(UTC) - 3 * DAY:%Y-%m-%d}"  # noqa: TID251 - the demo lives now
    read = run_bg_ingest(tmp_path, "backfill", "ada", "--from", since, "--json", PORT=port)
    assert read.returncode == 0, read.stderr
    assert json.loads(read.stdout)["done"] is True
    assert read.stderr == ""
    code, seen = run_on_terminal(tmp_path, "backfill", "ada", "--from", since, PORT=port)
    assert code == 0, seen
    assert re.search(r"Reading +\[#{36}\] +100%", seen)
    compared = run_bg_ingest(tmp_path, "verify", "ada", "--from", since, "--json", PORT=port)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    found = json.loads(compared.stdout)
    assert found["compared"] > 500
    assert found["differences"] == []

    fault = {"kind": "revised", "start": f"{since}T00:00:00Z", "end": f"{since}T12:00:00Z", "by": 9}
    revised_at = f"{datetime.now(UTC) - DAY:%Y-%m-%dT%H:%M:%SZ}"  # noqa: TID251 - see above
    added = web.post(f"{demo.url}/simulator/admin/faults", json=fault | {"revised_at": revised_at})
    assert added.is_success, added.text
    plain = run_bg_ingest(tmp_path, "verify", "ada", "--from", since, PORT=port)
    assert plain.returncode == 1
    assert "other value" in plain.stderr
    assert "mg/dL" not in plain.stdout
    shown = run_bg_ingest(tmp_path, "verify", "ada", "--from", since, "--values", PORT=port)
    assert (shown.returncode, "mg/dL" in shown.stdout) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["verify", "a#a", "--from", "2026-01-01"], 2, "user id"),
        (["backfill", "ada", "--from", "yesterday"], 2, "not a time"),
        (["verify", "ada", "--from", "2026-01-01T10:00:00"], 2, "ambiguous"),
        (["verify", "ada", "--from", "2026-01-05", "--to", "2026-01-01"], 2, "before --to"),
        (["verify", "ada", "--from", "2026-01-01"], 1, "no such user"),
    ],
)
def test_wrong_usage_is_one_sentence(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    refused = run_bg_ingest(tmp_path, *arguments)
    assert (refused.returncode, refused.stdout) == (code, "")
    assert says in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_unreadable_records_of_the_provider_are_counted_in_the_summary() -> None:
    window = Window(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))
    summary = summarize([Verification(window, 7, 2, ()), Verification(window, 1, 1, ())], [])
    assert summary == "8 readings compared: no difference. Not compared: 3 unreadable records of the provider."
