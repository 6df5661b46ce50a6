"""Settings as a whole: defaults, fallbacks, values and the file `.env`."""

import base64
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from bg_ingest.setting_types import WrappedKey
from bg_ingest.settings import Settings, SettingsError, get_settings
from tests.harness.settings import KEY, OTHER_KEY, PRODUCTION, WHSEC, Load, dexcom, refusal

ROOT = Path(__file__).parents[3]


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
        assert settings.fallbacks()[0] == "No DYNAMODB_TABLE: the table is bg-ingest."

    def test_a_region_alone_does_not_choose_dynamodb(self, load: Load) -> None:
        assert load(AWS_REGION="eu-central-1").store == "sqlite"

    def test_browsers_return_to_the_port_we_listen_on(self, load: Load) -> None:
        settings = load(PORT="8080", DEXCOM_CLIENT_ID="our-app", DEXCOM_CLIENT_SECRET="s")
        assert dexcom(settings).dexcom_redirect_uri == "http://localhost:8080/api/oauth/dexcom/callback"
        assert any(dexcom(settings).dexcom_redirect_uri in line for line in settings.fallbacks())

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1"])
    def test_an_open_api_listens_to_this_machine(self, load: Load, host: str) -> None:
        assert load(HOST=host).host == host

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 - refused
    def test_an_open_api_elsewhere_must_be_asked_for(self, load: Load, host: str) -> None:
        assert "API_OPEN=true" in refusal(load, HOST=host)
        assert load(API_OPEN="true").host == host

    @pytest.mark.parametrize(
        ("host", "own_host"), [("[::1]", "[::1]"), ("::1", "[::1]"), ("127.0.0.1", "localhost"), ("::", "localhost")]
    )
    def test_f23_an_address_of_ipv6_is_written_in_brackets(self, load: Load, host: str, own_host: str) -> None:
        settings = load(HOST=host, API_OPEN="true")
        assert settings.host == host.strip("[]")
        assert settings.own_host == own_host
        assert settings.model_dump()["dexcom_redirect_uri"] == f"http://{own_host}:5001/api/oauth/dexcom/callback"
        assert f"every client of {'[' * (':' in host)}" in settings.fallbacks()[-1]

    def test_f27_further_host_names_are_the_operators(self, load: Load) -> None:
        settings = load(ALLOWED_HOSTS="bg-ingest, Name.local.,host.docker.internal", HOST="localhost")
        assert settings.own_names == {"localhost", "bg-ingest", "name.local", "host.docker.internal"}
        for wrong in (
            "http://bg-ingest",
            "bg-ingest:5001",
            "*",
            "*.example",
            ".example",
            "a b",
            "bg/ingest",
            "x" * 254,
        ):
            assert "ALLOWED_HOSTS should be one or more host names" in refusal(load, ALLOWED_HOSTS=wrong)

    def test_s5_the_host_of_the_redirect_is_no_name_of_the_open_api(self, load: Load) -> None:
        settings = load(
            DEXCOM_CLIENT_ID="our-app",
            DEXCOM_CLIENT_SECRET="s",
            DEXCOM_REDIRECT_URI="https://dev.tunnel.example/api/oauth/dexcom/callback",
        )
        assert settings.own_names == {"127.0.0.1"}

    def test_an_api_with_credentials_may_listen_anywhere(self, load: Load) -> None:
        settings = load(HOST="0.0.0.0", JWT_ISSUER="https://id.example/", JWT_AUDIENCE="bg")  # noqa: S104 - the point
        assert settings.host == "0.0.0.0"  # noqa: S104 - the point

    def test_a_first_key_is_a_credential_like_others(self, load: Load) -> None:
        settings = load(HOST="0.0.0.0", API_BOOTSTRAP_KEY=f"bgi_first_{'s' * 43}")  # noqa: S104 - the point
        assert not settings.anonymous
        assert "s" * 43 not in repr(settings)


class TestStagingAndProduction:
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
    def test_production_sends_persons_and_tokens_by_https_only(self, load: Load, name: str) -> None:
        settings = PRODUCTION | {"JWT_AUDIENCE": "bg", "JWT_ISSUER": "https://id.example"}
        for environment in ("production", "staging"):
            settings |= {"ENVIRONMENT": environment}
            assert f"{name} should be https" in refusal(load, **settings | {name: "http://bg.example/"})
            assert load(**settings | {name: "http://localhost:5001/"}).environment == environment


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

    def test_a_wrapped_key_is_accepted_beside_plain_ones_and_not_shown(self, load: Load) -> None:
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
