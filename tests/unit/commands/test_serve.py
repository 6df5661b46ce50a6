"""``bg-ingest run``, ``demo`` and ``simulator`` as a terminal runs them."""

import re
import shutil
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bg_ingest import __version__
from bg_ingest.commands.serve import SENSOR_CADENCE_SECONDS
from bg_ingest.simulator import SimulatorOptions
from tests.harness.cli import ROOT, RunningCommand, Serve, run_bg_ingest
from tests.harness.settings import KEY
from tests.harness.web import web


def test_a_taken_port_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        refused = run_bg_ingest(tmp_path, "run", PORT=str(other.getsockname()[1]))
    assert refused.returncode == 2
    assert re.fullmatch(r"Cannot listen on 127\.0\.0\.1:\d+ .*: stop the program that uses it, .*\.\n", refused.stderr)


def test_reloading_is_refused_outside_development(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "ENVIRONMENT=staging\nAWS_REGION=eu-central-1\nDYNAMODB_TABLE=bg\nRABBITMQ_URL=amqps://u:p@host/v\n"
        "DEXCOM_CLIENT_ID=id\nDEXCOM_CLIENT_SECRET=secret\nDEXCOM_REDIRECT_URI=https://host/api/oauth/dexcom/callback\n"
        f"TOKEN_ENCRYPTION_KEYS={KEY}\n"
    )
    refused = run_bg_ingest(tmp_path, "run", "--reload")
    assert (refused.returncode, refused.stderr) == (2, "--reload is for development, and ENVIRONMENT is staging.\n")


def test_reloading_serves_the_code_as_it_is_now(serve: Serve, tmp_path: Path) -> None:
    """Uses a copy of the source tree, because the command watches the tree that it is in."""
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(ROOT / "app.py", source)
    for package in ("bg_ingest", "workers"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    running = serve("run", "--reload", PYTHONPATH=str(source))

    def shows(version: str) -> bool:
        return running.answers("/health/ready") and f'version="{version}"' in web.get(f"{running.url}/metrics").text

    running.until(lambda: shows(__version__))
    changed = source / "bg_ingest" / "__init__.py"
    changed.write_text(changed.read_text().replace(__version__, "as.it.is.now"))
    running.until(lambda: shows("as.it.is.now"))
    assert running.stop() == 0


def test_the_demo_does_not_touch_a_real_provider(tmp_path: Path) -> None:
    refused = run_bg_ingest(tmp_path, "demo", DEXCOM_CLIENT_ID="id", DEXCOM_CLIENT_SECRET="secret")
    assert refused.returncode == 2
    assert "unset" in refused.stderr


def test_run_serves_our_app_and_not_that_of_the_current_directory(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("raise SystemExit('the wrong app')")
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").write_text("raise SystemExit('the wrong workers')")
    running = serve("run")
    running.until(lambda: running.answers("/health/ready"))
    assert running.stop(signal.SIGINT) == 0
    assert "wrong" not in running.output


def test_f36_what_the_demo_says_to_try_works_and_a_second_start_goes_on_from_there(serve: Serve) -> None:
    demo = serve("demo", BACKFILL_DAYS="1", LOG_LEVEL="DEBUG")
    demo.until(lambda: "past readings of all three have been read" in demo.output)
    tries = re.findall(r"curl -s (?:-X (POST) )?(?:-H '.*?' )?'?(http://localhost:\d+/[^' \n]+)", demo.output)
    assert len(tries) == 7
    for method, url in tries:
        assert web.request(method or "GET", url).is_success, url
    before = [connection(demo, user) for user in ("ada", "ben", "eva")]
    assert [(each["state"], each["backfill_done"]) for each in before] == [("active", 1)] * 3
    now = datetime.now(UTC)  # noqa: TID251 - the demo runs by the real clock
    recent = [each for each in before if now - datetime.fromisoformat(each["newest_reading_at"]) < timedelta(minutes=7)]
    assert recent, "each simulated sensor is silent"
    for each in recent:  # F36: the next poll follows the newest reading by the cadence of the sensor
        wait = datetime.fromisoformat(each["next_poll_at"]) - datetime.fromisoformat(each["newest_reading_at"])
        assert wait <= timedelta(minutes=6), each
    assert re.search(r"New readings are due \(UTC\): \w+ \d\d:\d\d:\d\d, ", demo.output)
    assert demo.stop() == 0
    assert "debug" in demo.output

    again = serve("demo", BACKFILL_DAYS="1")
    again.until(lambda: "past readings of all three have been read" in again.output)
    assert connection(again, "ada")["connected_at"] == before[0]["connected_at"]


def connection(demo: RunningCommand, user: str) -> dict[str, Any]:
    shown: dict[str, Any] = web.get(f"{demo.url}/api/users/{user}/connections/dexcom").json()
    return shown


def test_f36_the_demo_polls_at_the_cadence_of_its_sensors() -> None:
    assert timedelta(seconds=SENSOR_CADENCE_SECONDS) == timedelta(minutes=SimulatorOptions().cadence_minutes)


def test_f24_a_flag_that_is_no_host_of_this_machine_is_refused(tmp_path: Path) -> None:
    refused = run_bg_ingest(tmp_path, "run", "--host", "x86_64-conda-linux-gnu")
    sentence = "--host should be an address or a name of this machine: x86_64-conda-linux-gnu is neither.\n"
    assert (refused.returncode, refused.stderr) == (2, sentence)


def test_a_file_that_cannot_be_replayed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("not a Clarity export\n")
    refused = run_bg_ingest(tmp_path, "simulator", "--replay", "notes.csv")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "notes.csv" in refused.stderr


def test_the_simulator_takes_its_options_and_keeps_its_journal(serve: Serve, tmp_path: Path) -> None:
    header = "Index,Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Source Device ID,Glucose Value (mg/dL)\n"
    rows = "1,2025-04-19T10:00:00,EGV,iPhone G6,110\n2,2025-04-19T10:05:00,EGV,iPhone G6,\n"
    (tmp_path / "export.csv").write_text(f"{header}{rows}")
    running = serve("simulator", "--replay", "export.csv", "--zone", "Europe/Berlin", "--journal", "journal.jsonl")
    running.until(lambda: running.answers("/admin/state"))
    users = [user["name"] for user in web.get(f"{running.url}/admin/state").json()["users"]]
    assert {"ReplayUser", "SandboxUser1"} <= set(users)
    assert "export.csv: 1 reading from 2025-04-19 08:00 " in running.output
    assert "1 row left out: 1 without a value (line 3)." in running.output
    assert running.stop() == 0
    assert (tmp_path / "journal.jsonl").read_text()
