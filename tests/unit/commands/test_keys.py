"""``bg-ingest keys`` as a terminal runs it."""

import json
import re
from pathlib import Path

from bg_ingest.commands.keys import SCOPES
from bg_ingest.domain.access import Scope
from tests.harness.cli import run_bg_ingest


def test_a_key_is_made_shown_once_listed_and_revoked(tmp_path: Path) -> None:
    made = run_bg_ingest(tmp_path, "keys", "create", "--name", "dashboard", "--scope", "readings:read", "--days", "90")
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(r"bgi_[a-z0-9]{12}_[A-Za-z0-9_-]{43}\n", made.stdout)
    _, identity, secret = made.stdout.strip().split("_", 2)
    assert identity in made.stderr
    assert "the first" in made.stderr

    (listed,) = json.loads(run_bg_ingest(tmp_path, "keys", "list", "--json").stdout)
    assert (listed["id"], listed["name"], listed["state"]) == (identity, "dashboard", "live")
    assert (listed["scopes"], listed["users"]) == (["readings:read"], None)
    assert listed["ends_at"] > listed["made_at"]

    assert run_bg_ingest(tmp_path, "keys", "revoke", identity).returncode == 0
    shown = run_bg_ingest(tmp_path, "keys", "list")
    assert "revoked" in shown.stdout
    assert secret not in shown.stdout + shown.stderr
    kept = (tmp_path / ".bg-ingest/bg-ingest.sqlite").read_bytes()
    assert secret.encode() not in kept


def test_what_cannot_be_is_refused_in_a_sentence(tmp_path: Path) -> None:
    missing = run_bg_ingest(tmp_path, "keys", "revoke", "nobody")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert re.fullmatch(r"There is no such key: .*\.\n", missing.stderr)
    wrong = run_bg_ingest(tmp_path, "keys", "create", "--name", "x", "--scope", "admin", "--user", "a b")
    assert wrong.returncode == 2
    assert "user id" in wrong.stderr


def test_the_commands_scopes_are_the_scopes() -> None:
    assert tuple(Scope) == SCOPES
