"""Wrong usage of ``bg-ingest verify``; its comparison: ``test_backfill.py``."""

from pathlib import Path

import pytest

from tests.harness.cli import run_bg_ingest


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
