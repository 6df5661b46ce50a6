"""What operators may tell this service, what stands in for the rest, and what refuses to start."""

import base64
import json
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from pydantic import ValidationError

from bg_ingest.providers.dexcom.settings import DexcomSettings
from bg_ingest.setting_types import WrappedKey
from bg_ingest.settings import Settings, SettingsError, get_settings

ROOT = Path(__file__).parents[3]
KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.urlsafe_b64encode(bytes(range(224, 256))).decode().rstrip("=")
WHSEC = "whsec_" + base64.b64encode(b"w" * 24).decode()
PRODUCTION = {
    "ENVIRONMENT": "production",
    "AWS_REGION": "eu-central-1",
    "DYNAMODB_TABLE": "readings",
    "RABBITMQ_URL": "amqps://user:hunter2@broker.example/vhost",
    "DEXCOM_CLIENT_ID": "our-app",
    "DEXCOM_CLIENT_SECRET": "hunter3",
    "DEXCOM_REDIRECT_URI": "https://bg.example/api/oauth/dexcom/callback",
    "TOKEN_ENCRYPTION_KEYS": KEY,
}

Load = Callable[..., Settings]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of this machine's settings reaches a test."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Start anew with this environment."""

    def start(**environment: str) -> Settings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()
        return get_settings()

    yield start
    get_settings.cache_clear()


def dexcom(settings: Settings) -> DexcomSettings:
    """Return the provider's part: the checker does not see what is composed at run time."""
    assert isinstance(settings, DexcomSettings)
    return settings


def refusal(load: Load, **environment: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(**environment)
    return str(refused.value)


class TestDevelopment:
    def test_nothing_needs_to_be_set(self, load: Load, folder: Path) -> None:
        settings = load()
        assert settings.environment == "development"
        assert (settings.store, settings.publisher, dexcom(settings).dexcom_simulated) == ("sqlite", "local", True)
        assert settings.poll_interval_seconds == 900
        assert settings.overlap_seconds == 3 * 3600
        assert settings.backfill_days == 90
        assert (settings.host, settings.port, settings.anonymous) == ("127.0.0.1", 5001, True)
        assert settings.data_dir == folder / ".bg-ingest"
        assert (settings.log_level, settings.log_format) == ("INFO", "console")
        assert dexcom(settings).dexcom_redirect_uri == "http://localhost:5001/api/oauth/dexcom/callback"

    def test_every_fallback_is_reported(self, load: Load, folder: Path) -> None:
        fallbacks = load().fallbacks()
        assert [line.partition(":")[0] for line in fallbacks] == [
            "No DYNAMODB_TABLE",
            "No RABBITMQ_URL",
            "No DEXCOM_CLIENT_ID",
            "No TOKEN_ENCRYPTION_KEYS",
            "No credentials",
        ]
        assert str(folder / ".bg-ingest" / "bg-ingest.sqlite") in fallbacks[0]

    def test_what_is_configured_has_no_fallback(self, load: Load) -> None:
        configured = PRODUCTION | {"ENVIRONMENT": "development", "JWT_ISSUER": "https://id.example/"}
        settings = load(**configured, JWT_AUDIENCE="bg")
        assert settings.fallbacks() == []
        assert (settings.store, settings.publisher, dexcom(settings).dexcom_simulated) == (
            "dynamodb",
            "rabbitmq",
            False,
        )
        assert not settings.anonymous

    def test_an_emulator_needs_neither_table_nor_region(self, load: Load) -> None:
        settings = load(DYNAMODB_ENDPOINT="http://localhost:8000")
        assert (settings.store, settings.dynamodb_table, settings.aws_region) == ("dynamodb", "bg-ingest", "us-east-1")
        assert settings.fallbacks()[0] == "No DYNAMODB_TABLE: it is bg-ingest."

    def test_a_region_alone_does_not_choose_dynamodb(self, load: Load) -> None:
        assert load(AWS_REGION="eu-central-1").store == "sqlite"

    def test_people_return_to_the_port_we_listen_on(self, load: Load) -> None:
        settings = load(PORT="8080", DEXCOM_CLIENT_ID="our-app", DEXCOM_CLIENT_SECRET="s")
        assert dexcom(settings).dexcom_redirect_uri == "http://localhost:8080/api/oauth/dexcom/callback"
        assert any(dexcom(settings).dexcom_redirect_uri in line for line in settings.fallbacks())

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1"])
    def test_an_open_api_listens_to_this_machine(self, load: Load, host: str) -> None:
        assert load(HOST=host).host == host

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "bg.example"])  # noqa: S104 - refused
    def test_an_open_api_elsewhere_must_be_asked_for(self, load: Load, host: str) -> None:
        assert "API_OPEN=true" in refusal(load, HOST=host)
        assert load(API_OPEN="true").host == host

    def test_an_api_with_credentials_may_listen_anywhere(self, load: Load) -> None:
        settings = load(HOST="0.0.0.0", JWT_ISSUER="https://id.example/", JWT_AUDIENCE="bg")  # noqa: S104 - the point
        assert settings.host == "0.0.0.0"  # noqa: S104 - the point

    def test_a_first_key_is_a_credential_like_others(self, load: Load) -> None:
        settings = load(HOST="0.0.0.0", API_BOOTSTRAP_KEY=f"bgi_first_{'s' * 43}")  # noqa: S104 - the point
        assert not settings.anonymous
        assert "s" * 43 not in repr(settings)

    def test_webhooks_by_token_need_their_issuer(self, load: Load) -> None:
        text = refusal(load, DEXCOM_WEBHOOK_AUTH="signature, Bearer")
        assert [line.split()[1] for line in text.splitlines()[1:]] == ["WEBHOOK_JWT_ISSUER", "WEBHOOK_JWT_AUDIENCE"]
        issuer = {"WEBHOOK_JWT_ISSUER": "https://id.example/", "WEBHOOK_JWT_AUDIENCE": "bg"}
        settings = load(DEXCOM_WEBHOOK_AUTH="signature, Bearer", **issuer)
        assert dexcom(settings).dexcom_webhook_auth == ("signature", "bearer")
        assert "DEXCOM_WEBHOOK_AUTH should be" in refusal(load, DEXCOM_WEBHOOK_AUTH="none", **issuer)

    @pytest.mark.parametrize(
        ("alone", "value", "needed"),
        [
            ("DEXCOM_CLIENT_ID", "our-app", ["DEXCOM_CLIENT_SECRET"]),
            ("DEXCOM_CLIENT_SECRET", "hunter2", ["DEXCOM_CLIENT_ID"]),
            ("DEXCOM_API_BASE_URL", "http://localhost:5002", ["DEXCOM_CLIENT_ID", "DEXCOM_CLIENT_SECRET"]),
            ("JWT_ISSUER", "https://id.example/", ["JWT_AUDIENCE"]),
            ("JWT_AUDIENCE", "bg", ["JWT_ISSUER"]),
            ("JWT_JWKS_URL", "https://id.example/keys", ["JWT_ISSUER", "JWT_AUDIENCE"]),
            ("WEBHOOK_JWT_ISSUER", "https://id.example/", ["WEBHOOK_JWT_AUDIENCE"]),
            ("WEBHOOK_JWT_SCOPE", "push", ["WEBHOOK_JWT_ISSUER", "WEBHOOK_JWT_AUDIENCE"]),
        ],
    )
    def test_what_does_nothing_alone_asks_for_the_other(
        self, load: Load, alone: str, value: str, needed: list[str]
    ) -> None:
        text = refusal(load, **{alone: value})
        assert [line.split()[1] for line in text.splitlines()[1:]] == needed
        assert f"{alone} is set and needs it" in text


class TestStagingAndProduction:
    @pytest.mark.parametrize("environment", ["staging", "production"])
    def test_everything_missing_is_listed_at_once(self, load: Load, environment: str) -> None:
        lines = refusal(load, ENVIRONMENT=environment).splitlines()[1:]
        assert {line.split()[1] for line in lines} == PRODUCTION.keys() - {"ENVIRONMENT"}
        assert all(" is missing: " in line for line in lines)

    def test_wrong_and_missing_are_listed_together(self, load: Load) -> None:
        wrong = {
            "POLL_INTERVAL_SECONDS": "59",
            "PORT": "http",
            "TOKEN_ENCRYPTION_KEYS": "short",
            "API_OPEN": "true",
            "DEXCOM_REDIRECT_URI": "http://bg.example/callback",
            "WEBHOOK_SIGNING_SECRETS": "hunter2",
            "JWT_ISSUER": "id.example",
            "API_BOOTSTRAP_KEY": "bgi_first_tooshort",
            "REQUESTS_PER_SECOND": "0",
        }
        lines = refusal(load, ENVIRONMENT="production", **wrong).splitlines()[1:]
        assert {line.split()[1] for line in lines if " should " in line} == wrong.keys()
        assert {line.split()[1] for line in lines if " is missing: " in line} == {
            *(PRODUCTION.keys() - wrong.keys() - {"ENVIRONMENT"}),
            "JWT_AUDIENCE",
        }

    def test_a_misspelt_environment_is_not_development(self, load: Load) -> None:
        text = refusal(load, ENVIRONMENT="prod")
        assert "ENVIRONMENT should be 'development', 'staging' or 'production'." in text
        assert "DYNAMODB_TABLE is missing" in text
        assert "LOG_FORMAT" not in text  # what depends on it is not wrong

    def test_nothing_falls_back(self, load: Load) -> None:
        settings = load(**PRODUCTION)
        assert settings.fallbacks() == []
        assert (settings.store, settings.publisher, dexcom(settings).dexcom_simulated) == (
            "dynamodb",
            "rabbitmq",
            False,
        )
        assert (settings.host, settings.log_format, settings.anonymous) == ("0.0.0.0", "json", False)  # noqa: S104 - default
        assert settings.sealing_keys() == (bytes(range(32)),)
        assert not settings.data_dir.exists()

    @pytest.mark.parametrize("name", ["DEXCOM_REDIRECT_URI", "DEXCOM_API_BASE_URL", "JWT_ISSUER", "JWT_JWKS_URL"])
    def test_production_sends_people_and_tokens_by_https_only(self, load: Load, name: str) -> None:
        settings = PRODUCTION | {"JWT_AUDIENCE": "bg", "JWT_ISSUER": "https://id.example"}
        assert f"{name} should be https in production." in refusal(load, **settings | {name: "http://bg.example/"})
        assert load(**settings | {name: "http://localhost:5001/"}).environment == "production"
        assert load(**settings | {name: "http://bg.example/", "ENVIRONMENT": "staging"}).environment == "staging"


class TestValues:
    def test_empty_and_blank_mean_unset(self, load: Load) -> None:
        assert load(PORT="", DYNAMODB_TABLE="  ", RABBITMQ_URL="", TOKEN_ENCRYPTION_KEYS="", HOST="") == load()

    def test_the_example_changes_nothing(self, load: Load, folder: Path) -> None:
        untold = load()
        (folder / ".env").write_text((ROOT / ".env.example").read_text("utf-8"), "utf-8")
        assert load() == untold
        assert load().notes == ()

    @pytest.mark.parametrize(
        ("name", "too_low", "lowest", "highest", "too_high"),
        [
            ("POLL_INTERVAL_SECONDS", "59", "60", "86400", "86401"),
            ("OVERLAP_SECONDS", "-1", "0", "86400", "86401"),
            ("BACKFILL_DAYS", "-1", "0", "3650", "3651"),
            ("PORT", "0", "1", "65535", "65536"),
        ],
    )
    def test_numbers_have_limits(
        self, load: Load, name: str, too_low: str, lowest: str, highest: str, too_high: str
    ) -> None:
        for value in (lowest, highest):
            assert getattr(load(**{name: value}), name.lower()) == int(value)
        for value in (too_low, too_high, "many"):
            assert f"{name} should be" in refusal(load, **{name: value})

    def test_words_are_known_in_any_case(self, load: Load) -> None:
        settings = load(ENVIRONMENT="Development", DEXCOM_REGION="OU", LOG_LEVEL="debug", LOG_FORMAT="JSON")
        assert (settings.environment, dexcom(settings).dexcom_region) == ("development", "ou")
        assert (settings.log_level, settings.log_format) == ("DEBUG", "json")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("DYNAMODB_ENDPOINT", "localhost:8000"),
            ("DYNAMODB_ENDPOINT", "http://user:hunter2@localhost:8000"),
            ("RABBITMQ_URL", "http://broker.example"),
            ("RABBITMQ_URL", "amqp://user:hunter2@broker.example:x"),
            ("RABBITMQ_URL", "amqp://"),
            ("DEXCOM_REGION", "eu"),
            ("LOG_FORMAT", "xml"),
            ("API_OPEN", "perhaps"),
            ("TOKEN_ENCRYPTION_KEYS", ","),
            ("TOKEN_ENCRYPTION_KEYS", f"{KEY},hunter2"),
            ("TOKEN_ENCRYPTION_KEYS", "kms:"),
            ("TOKEN_ENCRYPTION_KEYS", f"kms:hunter2!,{KEY}"),
            ("TOKEN_ENCRYPTION_KEYS", f"{KEY},kms:{base64.b64encode(bytes(6145)).decode()}"),
            ("TOKEN_ENCRYPTION_KEYS", base64.b64encode(b"x" * 31).decode()),
            ("WEBHOOK_SIGNING_SECRETS", WHSEC.removeprefix("whsec_")),
            ("WEBHOOK_SIGNING_SECRETS", f"{WHSEC},whsec_aHVudGVyMg=="),
            ("DATA_DIR", "~nobody-of-that-name/data"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, load: Load, name: str, value: str) -> None:
        (line,) = refusal(load, **{name: value}).splitlines()[1:]
        assert line.startswith(f"  - {name} should ")

    def test_the_first_key_seals_and_all_are_kept(self, load: Load) -> None:
        keys = load(TOKEN_ENCRYPTION_KEYS=f" {OTHER_KEY} , {KEY},").sealing_keys()
        assert keys == (bytes(range(224, 256)), bytes(range(32)))

    def test_a_key_made_with_openssl_is_taken(self, load: Load) -> None:
        made = "bUTp7X1mBnVd1zyCdqPpVbqUBzxs5hqUeqxLW1FzS+8=\n"  # openssl rand -base64 32
        assert load(TOKEN_ENCRYPTION_KEYS=made).sealing_keys() == (base64.b64decode(made),)

    def test_signing_secrets_come_as_written(self, load: Load) -> None:
        settings = load(WEBHOOK_SIGNING_SECRETS=f"{WHSEC}, {WHSEC}")
        assert [secret.get_secret_value() for secret in settings.webhook_signing_secrets] == [WHSEC, WHSEC]

    def test_a_host_for_all_calls_has_no_slash_at_its_end(self, load: Load) -> None:
        settings = load(**PRODUCTION, DEXCOM_API_BASE_URL="https://dexcom.example/")
        assert dexcom(settings).dexcom_api_base_url == "https://dexcom.example"

    def test_settings_are_read_once_and_cannot_be_changed(self, load: Load) -> None:
        settings = load(PORT="8080")
        assert get_settings() is settings
        with pytest.raises(ValidationError, match="frozen"):
            settings.port = 9090
        assert settings.port == 8080

    def test_secrets_are_never_shown(self, load: Load) -> None:
        settings = load(**PRODUCTION, WEBHOOK_SIGNING_SECRETS=WHSEC)
        shown = f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
        for secret in ("hunter2", "hunter3", KEY, str(bytes(range(32))), WHSEC):
            assert secret not in shown
        assert settings.rabbitmq_url is not None
        assert settings.rabbitmq_url.get_secret_value() == PRODUCTION["RABBITMQ_URL"]

    def test_a_wrapped_key_stands_beside_plain_ones_and_is_not_shown(self, load: Load) -> None:
        wrapped = b"w" * 184
        settings = load(TOKEN_ENCRYPTION_KEYS=f"kms:{base64.b64encode(wrapped).decode()},{KEY}")
        first, second = settings.sealing_keys()
        assert isinstance(first, WrappedKey)
        assert (first.get_secret_value(), second) == (wrapped, bytes(range(32)))
        shown = f"{first} {first!r} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
        assert "www" not in shown
        assert "d3d3" not in shown, "its base64"

    @pytest.mark.parametrize("value", ["hunter2", "http://u:hunter2@[h", "amqp://h:hunter2", "whsec_hunter2,"])
    def test_no_error_shows_a_value(self, load: Load, value: str) -> None:
        with pytest.raises(SettingsError) as refused:
            load(**dict.fromkeys((name.upper() for name in Settings.model_fields if name != "secret_name"), value))
        assert "hunter2" not in "".join(traceback.format_exception(refused.value)).casefold()
        assert refused.value.__context__ is None


class TestEnvFile:
    def test_it_is_read_from_the_current_directory(self, load: Load, folder: Path) -> None:
        (folder / ".env").write_text("# ours\nPORT=8080\nAPI_OPEN=\n")
        assert load().port == 8080

    def test_the_environment_wins_and_an_empty_one_does_not(self, load: Load, folder: Path) -> None:
        (folder / ".env").write_text("PORT=8080\nBACKFILL_DAYS=7\n")
        settings = load(PORT="9090", BACKFILL_DAYS="")
        assert (settings.port, settings.backfill_days) == (9090, 7)

    def test_unknown_names_are_reported_without_their_values(self, load: Load, folder: Path) -> None:
        (folder / ".env").write_text("POLL_INTERVAL_SECOND=60\nDEXCOM_CLIENT_SECRT=hunter2\n")
        settings = load()
        assert [note.split()[0] for note in settings.notes] == ["DEXCOM_CLIENT_SECRT", "POLL_INTERVAL_SECOND"]
        assert "hunter2" not in f"{settings!r} {settings.notes} {settings.model_dump()}"

    def test_a_mark_at_its_beginning_hides_no_name(self, load: Load, folder: Path) -> None:
        (folder / ".env").write_text("PORT=8080\n", "utf-8-sig")
        assert load().port == 8080

    def test_one_that_is_no_text_is_refused_in_a_sentence(self, load: Load, folder: Path) -> None:
        (folder / ".env").write_text("PORT=8080\n", "utf-16")
        assert refusal(load) == ".env cannot be read: it should be a text file in UTF-8 that this user may read."


@pytest.fixture
def keep(moto_server: str, aws: Callable[[str], None]) -> Iterator[Callable[[str], str]]:
    """Keep a text in Secrets Manager and return its name."""
    aws(moto_server)
    client = boto3.client("secretsmanager", region_name="eu-central-1")

    def put(text: str) -> str:
        client.create_secret(Name="bg/ingest", SecretString=text)
        return "bg/ingest"

    yield put
    client.delete_secret(SecretId="bg/ingest", ForceDeleteWithoutRecovery=True)
    client.close()


class TestSecret:
    def test_it_wins_over_the_environment_in_either_case(self, load: Load, keep: Callable[[str], str]) -> None:
        name = keep(json.dumps({"DEXCOM_CLIENT_SECRET": "hunter4", "port": 8080, "HOST": "", "JWT_ISSUER": None}))
        settings = load(**PRODUCTION, SECRET_NAME=name, PORT="9090", HOST="10.0.0.1")
        secret = dexcom(settings).dexcom_client_secret
        assert secret is not None
        assert secret.get_secret_value() == "hunter4"
        assert (settings.port, settings.host) == (8080, "10.0.0.1")
        assert settings.notes == ()

    def test_it_brings_what_production_needs(self, load: Load, keep: Callable[[str], str]) -> None:
        outside = {name: PRODUCTION[name] for name in ("ENVIRONMENT", "AWS_REGION")}
        name = keep(json.dumps(PRODUCTION))
        assert load(**outside, SECRET_NAME=name).store == "dynamodb"

    def test_what_is_wrong_in_it_is_listed(self, load: Load, keep: Callable[[str], str]) -> None:
        name = keep(json.dumps({"PORT": ["hunter2"]}))
        assert "PORT should be" in refusal(load, AWS_REGION="eu-central-1", SECRET_NAME=name)

    def test_unknown_names_in_it_are_reported(self, load: Load, keep: Callable[[str], str]) -> None:
        settings = load(AWS_REGION="eu-central-1", SECRET_NAME=keep('{"PORTS": "hunter2"}'))
        assert settings.notes == ("PORTS in .env or the secret is no setting: it has no effect.",)

    @pytest.mark.parametrize("text", ["hunter2", '["hunter2"]', '{"PORT": "hunter2"'])
    def test_what_is_not_a_json_object_stops_production_only(
        self, load: Load, keep: Callable[[str], str], text: str
    ) -> None:
        name = keep(text)
        sentence = 'The secret bg/ingest should be a JSON object like {"RABBITMQ_URL": "…"}.'
        assert refusal(load, **PRODUCTION, SECRET_NAME=name) == sentence
        assert load(ENVIRONMENT="development").notes == (f"{sentence} Going on without it.",)

    def test_a_missing_one_stops_production_in_a_sentence(self, load: Load, keep: Callable[[str], str]) -> None:
        keep("{}")
        text = refusal(load, **PRODUCTION, SECRET_NAME="bg/other")
        assert text.startswith("The secret bg/other cannot be read from AWS Secrets Manager (ResourceNotFoundException")
        assert "\n" not in text

    @pytest.mark.usefixtures("unreachable_aws")
    def test_an_unreachable_one_stops_production_in_a_sentence(self, load: Load) -> None:
        text = refusal(load, **PRODUCTION, SECRET_NAME="bg/ingest")
        assert text.startswith("The secret bg/ingest cannot be read from AWS Secrets Manager (EndpointConnectionError)")
        assert "\n" not in text

    @pytest.mark.usefixtures("unreachable_aws")
    def test_development_goes_on_without_an_unreachable_one(self, load: Load) -> None:
        settings = load(SECRET_NAME="bg/ingest", AWS_REGION="eu-central-1")
        assert settings.store == "sqlite"
        (note,) = settings.notes
        assert note.endswith("Going on without it.")

    def test_without_one_no_aws_library_is_loaded(self) -> None:
        code = (
            "import sys; from bg_ingest.settings import get_settings; get_settings()\n"
            "sys.exit(' '.join(sys.modules.keys() & {'boto3', 'botocore', 'aioboto3'}) or None)"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")


class TestGeneratedKey:
    def test_it_is_made_once_for_its_owner_alone(self, load: Load) -> None:
        settings = load()
        (key,) = settings.sealing_keys()
        assert len(key) == 32
        assert load().sealing_keys() == (key,)
        assert settings.key_file.stat().st_mode & 0o777 == 0o600
        assert settings.data_dir.stat().st_mode & 0o777 == 0o700
        assert list(settings.data_dir.iterdir()) == [settings.key_file]

    def test_it_can_be_moved_into_the_setting(self, load: Load) -> None:
        settings = load()
        generated = settings.sealing_keys()
        assert load(TOKEN_ENCRYPTION_KEYS=settings.key_file.read_text()).sealing_keys() == generated

    def test_each_folder_has_its_own(self, load: Load, folder: Path) -> None:
        assert load().sealing_keys() != load(DATA_DIR=str(folder / "other")).sealing_keys()

    def test_all_who_race_for_it_get_the_same(self, load: Load, folder: Path) -> None:
        together = threading.Barrier(8)

        def race(settings: Settings) -> tuple[object, ...]:
            together.wait()
            return settings.sealing_keys()

        with ThreadPoolExecutor(8) as pool:
            for number in range(20):
                settings = load(DATA_DIR=str(folder / str(number)))
                assert len(set(pool.map(race, [settings] * 8))) == 1

    @pytest.mark.parametrize("content", [b"", b"hunter2", b"\xff\xfe"])
    def test_a_spoilt_one_is_never_replaced(self, load: Load, content: bytes) -> None:
        settings = load()
        settings.data_dir.mkdir()
        settings.key_file.write_bytes(content)
        with pytest.raises(SettingsError, match="token-encryption-key") as refused:
            settings.sealing_keys()
        assert "hunter2" not in str(refused.value)
        assert settings.key_file.read_bytes() == content

    def test_a_folder_that_cannot_be_made_is_refused_in_a_sentence(self, load: Load, folder: Path) -> None:
        (folder / "file").write_text("")
        with pytest.raises(SettingsError, match="check DATA_DIR"):
            load(DATA_DIR=str(folder / "file")).sealing_keys()
