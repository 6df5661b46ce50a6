"""``bg-ingest keys`` as an operator runs it: keys of the API, and the keys that seal stored secrets."""

import base64
import json
import re
import subprocess
from pathlib import Path

import boto3
import pytest

from bg_ingest.adapters.aws.kms import ENCRYPTION_CONTEXT
from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.adapters.sqlite.file import open_file
from bg_ingest.commands.keys import SCOPES
from bg_ingest.domain.access import Scope
from bg_ingest.domain.grants import Credentials, Grant, SecretBytes
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.ports import Observer
from bg_ingest.services.connections.grant_storage import GrantSealer
from bg_ingest.services.connections.grants import Grants
from bg_ingest.store import Store
from tests.fakes.clock import NOON, SetClock
from tests.fakes.unlimited_budget import UnlimitedBudget
from tests.harness.aws import CREDENTIALS
from tests.harness.cli import RunningCommand, run_bg_ingest, run_on_terminal
from tests.harness.sample_values import connection, connection_commit


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


def test_a_share_link_opens_the_page_with_a_key_for_one_user_with_an_end(tmp_path: Path) -> None:
    made = run_bg_ingest(tmp_path, "keys", "create", "--link", "--user", "ada|1", "--days", "14", PORT="5077")
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(r"http://localhost:5077/#key=bgi_[a-z0-9]{12}_[A-Za-z0-9_-]{43}&user=ada%7C1\n", made.stdout)

    (listed,) = json.loads(run_bg_ingest(tmp_path, "keys", "list", "--json").stdout)
    assert (listed["name"], listed["scopes"], listed["users"]) == ("share link", ["readings:read"], ["ada|1"])
    assert listed["ends_at"] > listed["made_at"]


def test_a_share_link_in_json_has_the_key_and_the_address(tmp_path: Path) -> None:
    arguments = ("--link", "--user", "ada", "--days", "1", "--name", "for the clinic", "--json")
    made = json.loads(run_bg_ingest(tmp_path, "keys", "create", *arguments, PUBLIC_URL="https://bg.example/").stdout)
    assert made["link"] == f"https://bg.example/#key={made['key']}&user=ada"
    assert made["name"] == "for the clinic"


def test_keys_are_managed_while_a_service_has_the_file_of_the_store_open(tmp_path: Path) -> None:
    with open_file(tmp_path / ".bg-ingest" / "bg-ingest.sqlite", NOON.timestamp):
        made = run_bg_ingest(tmp_path, "keys", "create", "--link", "--user", "ada", "--days", "14")
        assert made.returncode == 0, made.stderr
        assert "To open the page with a key of your own: bg-ingest keys create --link --days 30 --scope" in made.stderr
        (listed,) = json.loads(run_bg_ingest(tmp_path, "keys", "list", "--json").stdout)
        assert run_bg_ingest(tmp_path, "keys", "revoke", listed["id"]).returncode == 0
        assert run_bg_ingest(tmp_path, "connections").returncode == 1


def test_a_link_to_all_users_has_the_permissions_that_are_named(tmp_path: Path) -> None:
    arguments = ("--link", "--days", "30", "--scope", "admin", "--scope", "readings:read", "--json")
    made = json.loads(run_bg_ingest(tmp_path, "keys", "create", *arguments).stdout)
    assert made["link"] == f"http://localhost:5001/#key={made['key']}"
    assert (made["name"], made["users"], made["scopes"]) == ("page", None, ["admin", "readings:read"])


@pytest.mark.parametrize(
    "arguments", [["--days", "14"], ["--user", "ada"], ["--user", "ada", "--user", "ben", "--days", "14"]]
)
def test_a_share_link_needs_one_user_and_an_end(tmp_path: Path, arguments: list[str]) -> None:
    refused = run_bg_ingest(tmp_path, "keys", "create", "--link", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("A share link shows one user for a limited time: add one --user and --days")


def test_no_share_link_is_made_while_the_page_is_disabled(tmp_path: Path) -> None:
    refused = run_bg_ingest(tmp_path, "keys", "create", "--link", "--user", "ada", "--days", "1", PAGE="false")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("PAGE=false disables the page")


def test_a_key_without_a_link_needs_a_name_and_a_scope(tmp_path: Path) -> None:
    for arguments in (["--name", "x"], ["--scope", "admin"]):
        refused = run_bg_ingest(tmp_path, "keys", "create", *arguments)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "--name and at least one --scope" in refused.stderr


def test_the_commands_scopes_are_the_scopes() -> None:
    assert tuple(Scope) == SCOPES


OLD, NEW = bytes(range(32)), bytes(range(32, 64))
REGION = "eu-central-1"
USERS = [ConnectionId(UserId(name), "acme") for name in ("ada", "ben", "eva")]


def credentials_of(person: ConnectionId) -> Credentials:
    return Credentials(SecretBytes(f"tokens of {person.user}".encode()), NOON)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """Store the grants of three persons, sealed by the old key."""
    clock = SetClock()
    async with open_table(tmp_path / "bg-ingest.sqlite", clock) as table:
        store = Store(table, clock)
        grants = Grants(store.grants, {}, UnlimitedBudget(), AesGcmSealer([OLD]), clock, "bg-ingest", Observer())
        for person in USERS:
            after = connection(id=person, provider_account=str(person.user))
            sealed = grants.seal_new(after.id, after.generation, credentials_of(person))
            await store.commits.write(connection_commit(None, None, after, grant=sealed))
    return tmp_path


async def stored(folder: Path) -> list[Grant]:
    async with open_table(folder / "bg-ingest.sqlite", SetClock()) as table:
        found = [await Store(table, SetClock()).connections.get_with_grant(person) for person in USERS]
    return [grant for _, grant in found if grant]


def opened_with(key: bytes, grants: list[Grant]) -> list[SecretBytes]:
    seals = GrantSealer(AesGcmSealer([key]), "bg-ingest")
    return [seals.open(each) for each in grants]


def written(key: bytes) -> str:
    return base64.b64encode(key).decode()


def rotate(folder: Path, *keys: str, **aws: str) -> subprocess.CompletedProcess[str]:
    settings = {"DATA_DIR": str(folder), "TOKEN_ENCRYPTION_KEYS": ",".join(keys), **aws}
    return run_bg_ingest(folder, "keys", "rotate-encryption", "--json", **settings)


async def test_it_says_when_the_old_keys_may_go(folder: Path) -> None:
    settings = {"DATA_DIR": str(folder), "TOKEN_ENCRYPTION_KEYS": f"{written(NEW)},{written(OLD)}"}
    done = run_bg_ingest(folder, "keys", "rotate-encryption", **settings)
    assert (done.returncode, "may be removed" in done.stdout) == (0, True), done.stderr
    assert "sealing again" not in done.stderr
    code, seen = run_on_terminal(folder, "keys", "rotate-encryption", **settings)
    assert (code, re.search("sealing again.*100%", seen) is not None) == (0, True)
    again = rotate(folder, written(NEW))
    assert again.returncode == 0
    assert json.loads(again.stdout) == {"sealed": 3, "resealed": 0, "busy": 0, "unopened": 0, "complete": True}


async def test_it_refuses_to_say_so_while_something_does_not_open(folder: Path) -> None:
    done = rotate(folder, written(NEW))
    assert (done.returncode, json.loads(done.stdout)["complete"]) == (1, False)
    assert "may be removed" not in done.stderr
    assert "Keep all keys" in done.stderr


@pytest.fixture
def at_aws(moto_server: str) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL": moto_server, "AWS_REGION": REGION, **CREDENTIALS}


def made_by_kms(folder: Path, at_aws: dict[str, str]) -> tuple[str, bytes]:
    """Return a wrapped key as our command prints it, and the plain key as AWS's own client unwraps it."""
    client = boto3.client(
        "kms",
        region_name=REGION,
        endpoint_url=at_aws["AWS_ENDPOINT_URL"],
        aws_access_key_id="invented",
        aws_secret_access_key="invented",
    )
    name = str(client.create_key()["KeyMetadata"]["KeyId"])
    made = run_bg_ingest(folder, "keys", "create-encryption", "--kms", name, **at_aws)
    assert made.returncode == 0, made.stderr
    text = made.stdout.strip()
    wrapped = base64.b64decode(text.removeprefix("kms:"))
    key = client.decrypt(CiphertextBlob=wrapped, EncryptionContext=ENCRYPTION_CONTEXT)["Plaintext"]
    client.close()
    assert written(key) not in made.stdout + made.stderr
    return text, key


async def test_from_a_plain_key_to_kms_and_back_every_grant_is_kept(folder: Path, at_aws: dict[str, str]) -> None:
    before = [credentials_of(person).content for person in USERS]
    all_anew = {"sealed": 3, "resealed": 3, "busy": 0, "unopened": 0, "complete": True}
    wrapped, key = made_by_kms(folder, at_aws)

    done = rotate(folder, wrapped, written(OLD), **at_aws)
    assert (done.returncode, json.loads(done.stdout)) == (0, all_anew), done.stderr
    assert opened_with(key, await stored(folder)) == before
    assert wrapped not in done.stdout + done.stderr

    back = rotate(folder, written(NEW), wrapped, **at_aws)
    assert (back.returncode, json.loads(back.stdout)) == (0, all_anew), back.stderr
    assert opened_with(NEW, await stored(folder)) == before


async def test_a_key_that_kms_does_not_open_is_named_by_its_position(folder: Path, at_aws: dict[str, str]) -> None:
    before = await stored(folder)
    wrapped, _ = made_by_kms(folder, at_aws)
    altered = wrapped[:-8] + ("AAAAAAA=" if wrapped[-8:] != "AAAAAAA=" else "BBBBBBB=")
    refused = rotate(folder, written(OLD), altered, **at_aws)
    assert refused.returncode == 1
    assert re.fullmatch(
        r"Key 2 of TOKEN_ENCRYPTION_KEYS cannot be had from AWS KMS \(\w+\): [^\n]+\.\n", refused.stderr
    )
    assert await stored(folder) == before

    doctor = run_bg_ingest(
        folder, "doctor", "--json", DATA_DIR=str(folder), TOKEN_ENCRYPTION_KEYS=f"{written(OLD)},{altered}", **at_aws
    )
    (findings,) = [each for each in json.loads(doctor.stdout) if each["check"] == "keys"]
    assert (doctor.returncode, findings["verdict"]) == (1, "failed")
    assert (findings["found"][:5], bool(findings["advice"])) == ("Key 2", True)


async def test_the_doctor_reports_wrapped_keys_and_the_data_that_all_of_them_open(
    folder: Path, at_aws: dict[str, str]
) -> None:
    wrapped, _ = made_by_kms(folder, at_aws)
    settings = {"DATA_DIR": str(folder), "TOKEN_ENCRYPTION_KEYS": f"{wrapped},{written(OLD)}", **at_aws}
    doctor = run_bg_ingest(folder, "doctor", "--json", **settings)
    findings = [each["found"] for each in json.loads(doctor.stdout) if each["check"] == "keys"]
    assert findings == ["AWS KMS unwraps 1 of 2", "they open all of 3 stored grants that were tried"]
    assert doctor.returncode == 0, doctor.stdout


def test_a_plain_key_is_made_without_aws(tmp_path: Path) -> None:
    made = run_bg_ingest(tmp_path, "keys", "create-encryption")
    assert (made.returncode, len(base64.b64decode(made.stdout))) == (0, 32)


def test_what_kms_refuses_to_make_is_a_sentence(tmp_path: Path, at_aws: dict[str, str]) -> None:
    refused = run_bg_ingest(tmp_path, "keys", "create-encryption", "--kms", "alias/nobody", **at_aws)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.fullmatch(r"A new key cannot be had from AWS KMS \(NotFoundException\): [^\n]+\.\n", refused.stderr)


def test_no_service_starts_without_its_keys(tmp_path: Path, at_aws: dict[str, str]) -> None:
    service = RunningCommand(tmp_path, "run", TOKEN_ENCRYPTION_KEYS=f"{written(OLD)},kms:{written(NEW)}", **at_aws)
    assert service.process.wait(20) == 1
    assert "Key 2 of TOKEN_ENCRYPTION_KEYS cannot be had from AWS KMS" in service.output
    assert "Traceback" not in service.output


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("AWS_PROFILE", "nobody", "AWS_PROFILE should name a profile"),
        ("HTTPS_PROXY", "socks://127.0.0.1:1080", "HTTPS_PROXY should be the address of an HTTP proxy"),
    ],
)
def test_f2_f19_a_key_of_kms_names_the_variable_that_prevents_it(
    tmp_path: Path, name: str, value: str, sentence: str
) -> None:
    refused = run_bg_ingest(tmp_path, "keys", "create-encryption", "--kms", "alias/bg", **{name: value})
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith(sentence)
