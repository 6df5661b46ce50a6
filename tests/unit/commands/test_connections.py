"""``bg-ingest connections``, ``outbox`` and ``doctor`` on the store of a stopped service."""

import json
import re
from pathlib import Path

from bg_ingest.commands.connections import STATES
from bg_ingest.domain.connections import ConnectionState
from tests.harness.cli import Serve, run_bg_ingest
from tests.harness.web import web


def test_every_state_may_be_asked_for() -> None:
    assert tuple(ConnectionState) == STATES


def test_the_data_of_the_demo_is_listed_published_again_and_examined(serve: Serve, tmp_path: Path) -> None:
    demo = serve("demo", BACKFILL_DAYS="1")
    demo.until(lambda: "past readings of all three have been read" in demo.output, 60)
    metrics = web.get(f"{demo.url}/metrics").text
    assert re.search(r"^bg_ingest_connections 3\.0$", metrics, re.MULTILINE)
    assert web.post(f"{demo.url}/api/users/max/connections/dexcom").status_code == 201
    beside = run_bg_ingest(tmp_path, "doctor", "--json")
    assert beside.returncode == 0
    assert "in use by the running service" in beside.stdout
    assert demo.stop() == 0

    listed = json.loads(run_bg_ingest(tmp_path, "connections", "--json").stdout)
    assert [each["user_id"] for each in sorted(listed, key=lambda each: str(each["user_id"]))] == ["ada", "ben", "eva"]
    assert {each["state"] for each in listed} == {"active"}
    assert json.loads(run_bg_ingest(tmp_path, "connections", "--state", "paused", "--json").stdout) == []
    (begun,) = json.loads(
        run_bg_ingest(tmp_path, "connections", "--state", "connecting", "--user", "max", "--json").stdout
    )
    assert (begun["user_id"], begun["state"]) == ("max", "connecting")
    for state in ("connecting", "disconnected"):
        unlisted = run_bg_ingest(tmp_path, "connections", "--state", "paused", "--state", state)
        assert (unlisted.returncode, unlisted.stdout) == (2, "")
        assert re.search(f"{state}.*--user", unlisted.stderr)
    shown = run_bg_ingest(tmp_path, "connections", "--user", "ben")
    assert re.search(r"^ben +dexcom +active +\d{4}-\d\d-\d\d", shown.stdout, re.MULTILINE)
    assert "\x1b" not in shown.stdout

    assert json.loads(run_bg_ingest(tmp_path, "outbox", "--json").stdout)["waiting"] == 0
    again = run_bg_ingest(tmp_path, "outbox", "replay", "ada", "--from", "1")
    assert re.fullmatch(r"\d+ events of ada will be published again\.\n", again.stdout), again.stderr
    waiting = json.loads(run_bg_ingest(tmp_path, "outbox", "--json").stdout)
    assert waiting["waiting"] == int(again.stdout.split()[0])
    assert (waiting["users"], bool(waiting["oldest"])) == (1, True)
    assert run_bg_ingest(tmp_path, "outbox", "replay", "nobody", "--from", "1").returncode == 1

    whole = json.loads(run_bg_ingest(tmp_path, "doctor", "--json").stdout)
    assert {each["verdict"] for each in whole} <= {"ok", "warning"}
    assert "all of 3 stored grants" in str(whole)
