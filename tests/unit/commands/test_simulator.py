"""``bg-ingest simulator`` as a terminal runs it."""

from pathlib import Path

from tests.harness.cli import Serve, run_bg_ingest
from tests.harness.web import web


def test_a_file_that_cannot_be_replayed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("not a Clarity export\n")
    refused = run_bg_ingest(tmp_path, "simulator", "--replay", "notes.csv")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "notes.csv" in refused.stderr


def test_the_simulator_takes_its_options_and_keeps_its_journal(serve: Serve, tmp_path: Path) -> None:
    header = "Index,Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Source Device ID,Glucose Value (mg/dL)\n"
    (tmp_path / "export.csv").write_text(f"{header}1,2025-04-19T10:00:00,EGV,iPhone G6,110\n")
    running = serve("simulator", "--replay", "export.csv", "--zone", "Europe/Berlin", "--journal", "journal.jsonl")
    running.until(lambda: running.answers("/admin/state"))
    users = [user["name"] for user in web.get(f"{running.url}/admin/state").json()["users"]]
    assert {"ReplayUser", "SandboxUser1"} <= set(users)
    assert running.stop() == 0
    assert (tmp_path / "journal.jsonl").read_text()
