"""Surroundings of a start: proxies, certificates, AWS configuration files, the data folder, names of this machine."""

import os
from collections.abc import Iterator
from errno import EACCES
from pathlib import Path
from urllib.request import getproxies

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bg_ingest.adapters.aws.session import get_session
from bg_ingest.providers.http_client import http_client
from bg_ingest.setting_types import is_own_host
from bg_ingest.settings import Settings
from bg_ingest.settings.environment import clean_proxies, find_unusable_folder
from tests.harness.settings import PRODUCTION, Load, refusal

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
UNUSABLE = (
    "socks://127.0.0.1:1080",
    "socks5h://localhost:1080/",
    "http://",
    "http://u:p@ss@host:3128",
    "http://host:x",
)
IN_AWS = {"DYNAMODB_TABLE": "readings", "AWS_REGION": "eu-central-1"}
REMOTE = {"JWT_ISSUER": "https://id.example/", "JWT_AUDIENCE": "bg"}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the variables, which the tested function changes."""
    before = dict(os.environ)  # noqa: TID251 - restored below
    for name in before:
        if name.upper() in PROXIES or name.startswith(("AWS_", "SSL_CERT", "REQUESTS_CA")):
            monkeypatch.delenv(name)
    get_session.cache_clear()
    yield
    get_session.cache_clear()
    os.environ.clear()  # noqa: TID251 - as above
    os.environ.update(before)  # noqa: TID251 - as above


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    file = tmp_path / "bundle.pem"
    file.write_text("no certificate")
    return file


class TestProxies:
    @pytest.mark.parametrize("value", UNUSABLE)
    @pytest.mark.parametrize("name", ["ALL_PROXY", "http_proxy", "HTTPS_PROXY"])
    def test_f2_a_proxy_that_nothing_needs_is_removed_and_reported(self, load: Load, name: str, value: str) -> None:
        notes = load(**{name: value}).notes
        assert notes == (f"{name} is not the address of an HTTP proxy: it is not used.",)
        clean_proxies()
        assert name not in os.environ  # noqa: TID251 - of this process
        http_client()

    @pytest.mark.parametrize("value", UNUSABLE)
    @pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
    def test_f2_a_proxy_that_a_call_needs_is_refused_by_name(self, load: Load, name: str, value: str) -> None:
        text = refusal(load, **REMOTE, **{name: value})
        (line,) = text.splitlines()[1:]
        assert line.startswith(f"  - {name} should be the address of an HTTP proxy")
        assert line.endswith("add id.example to NO_PROXY.")
        assert "p@ss" not in line

    def test_f2_what_no_proxy_lists_needs_no_proxy(self, load: Load) -> None:
        assert load(**REMOTE, ALL_PROXY="socks://127.0.0.1:1080", NO_PROXY=".example").jwt_issuer

    def test_f2_calls_of_aws_do_not_use_all_proxy(self, load: Load) -> None:
        assert load(**IN_AWS, ALL_PROXY="socks://127.0.0.1:1080").store == "dynamodb"
        assert "add dynamodb.eu-central-1.amazonaws.com to NO_PROXY" in refusal(
            load, HTTPS_PROXY="socks://127.0.0.1:1080"
        )

    def test_f2_a_secret_behind_an_unusable_proxy_names_the_variable(self, load: Load) -> None:
        text = refusal(load, **PRODUCTION, SECRET_NAME="bg/ingest", HTTPS_PROXY="socks://127.0.0.1:1080")
        assert text.startswith("The secret bg/ingest cannot be read: HTTPS_PROXY should be")

    def test_f2_a_proxy_without_a_scheme_is_completed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
        clean_proxies()
        assert getproxies()["https"] == "http://proxy.example:3128"

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
    def test_f2_this_machine_is_called_without_a_proxy(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setenv(name, "http://proxy.example:3128")
        monkeypatch.setenv("NO_PROXY", "10.0.0.0/8, fe80::/10, *.internal, [fd00::1], intranet:8080")
        clean_proxies()
        assert getproxies()["no"] == ".internal,fd00::1,intranet:8080,localhost,127.0.0.1,::1"

    @given(
        proxy=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
        | st.sampled_from(UNUSABLE),
        direct=st.text(st.sampled_from("az.*:/[]0129, -@%"), max_size=30),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
    def test_f2_no_value_of_a_proxy_variable_breaks_the_client(self, proxy: str, direct: str) -> None:
        os.environ.update(ALL_PROXY=proxy, HTTPS_PROXY=proxy, NO_PROXY=direct)  # noqa: TID251 - restored
        clean_proxies()
        httpx.Client(verify=False)  # noqa: S501 - sends nothing; without certificates it is built sooner


class TestAws:
    def test_f19_an_unknown_profile_is_refused_by_name_where_aws_is_used(self, load: Load) -> None:
        assert load(AWS_PROFILE="nobody").store == "sqlite"
        text = refusal(load, **IN_AWS)
        assert text.endswith(
            "AWS_PROFILE should name a profile of the AWS configuration files: correct it, or unset it."
        )

    @pytest.mark.parametrize("name", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
    @pytest.mark.parametrize("content", [b"region = eu-central-1", b"[default\nregion", b"\xff\xfe[default]"])
    def test_f19_a_malformed_file_is_refused_by_name(
        self, load: Load, tmp_path: Path, name: str, content: bytes
    ) -> None:
        (tmp_path / "aws").write_bytes(content)
        text = refusal(load, **IN_AWS, **{name: str(tmp_path / "aws")})
        assert f"{tmp_path / 'aws'} cannot be read as an AWS configuration file: correct it" in text

    def test_f19_a_secret_of_an_unknown_profile_names_the_profile(self, load: Load) -> None:
        text = refusal(load, **PRODUCTION, SECRET_NAME="bg/ingest", AWS_PROFILE="nobody")
        assert text.startswith("The secret bg/ingest cannot be read: AWS_PROFILE should name a profile")

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
    def test_f19_certificates_that_cannot_be_read_are_refused_by_name(
        self, load: Load, bundle: Path, name: str
    ) -> None:
        for path in (bundle, bundle.parent, bundle.parent / "none"):
            assert f"{name} should name a readable file of certificates" in refusal(load, **IN_AWS, **{name: str(path)})


class TestDataFolder:
    def test_f19_a_file_in_place_of_the_folder_is_refused(self, load: Load, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "file", tmp_path / "file" / "below"):
            text = refusal(load, DATA_DIR=str(path))
            assert f"DATA_DIR should be a folder for the data, but {tmp_path / 'file'} is not a folder: check" in text

    def test_f19_a_folder_without_the_right_to_write_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: object) -> None:
            raise PermissionError(EACCES, "Permission denied")

        monkeypatch.setattr("tempfile.TemporaryFile", refuse)
        (sentence,) = find_unusable_folder(tmp_path / "data")
        assert f"nothing can be written to {tmp_path} (Permission denied): check DATA_DIR" in sentence
        monkeypatch.undo()
        assert list(find_unusable_folder(tmp_path / "data")) == []
        assert list(tmp_path.iterdir()) == []

    def test_f19_a_folder_in_place_of_the_file_is_refused(self, load: Load, tmp_path: Path) -> None:
        (tmp_path / "data" / "bg-ingest.sqlite").mkdir(parents=True)
        assert "bg-ingest.sqlite is not a file that this user may write" in refusal(
            load, DATA_DIR=str(tmp_path / "data")
        )

    def test_f19_a_folder_that_is_not_used_is_not_checked(self, load: Load, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert load(**PRODUCTION, DATA_DIR=str(tmp_path / "file")).environment == "production"


class TestHost:
    CONDA = "x86_64-conda-linux-gnu"

    @pytest.fixture(autouse=True)
    def _name(self, names: dict[str, str]) -> None:
        names.update({"elsewhere.example": "192.0.2.1", "this.example": "127.0.0.1"})

    @pytest.mark.parametrize("host", [CONDA, "elsewhere.example", "tcp://10.0.0.1:80"])
    def test_f24_development_reports_and_replaces_a_host_that_is_not_ours(self, load: Load, host: str) -> None:
        settings = load(HOST=host)
        assert settings.host == "127.0.0.1"
        (note,) = settings.notes
        assert note.startswith(
            "HOST is no address or name of this machine (conda sets it for compilers): 127.0.0.1 is used"
        )

    def test_f24_outside_development_it_is_refused_as_what_it_is(self, load: Load) -> None:
        text = refusal(load, **PRODUCTION, HOST=self.CONDA)
        assert text.splitlines()[1:] == ["  - HOST should be an address or a name of this machine."]

    def test_f24_a_name_of_this_machine_is_ours(self) -> None:
        hosts = ("this.example", "elsewhere.example", "::", "0.0.0.0", "10.1.2.3")  # noqa: S104 - not bound
        assert [is_own_host(host) for host in hosts] == [True, False, True, True, True]


URL_SETTINGS = {
    "DYNAMODB_ENDPOINT": {},
    "JWT_ISSUER": {"JWT_AUDIENCE": "bg"},
    "JWT_JWKS_URL": REMOTE,
    "WEBHOOK_JWT_ISSUER": {"WEBHOOK_JWT_AUDIENCE": "bg"},
    "WEBHOOK_JWT_JWKS_URL": {"WEBHOOK_JWT_ISSUER": "https://id.example", "WEBHOOK_JWT_AUDIENCE": "bg"},
    "TRACES_ENDPOINT": {},
    "DEXCOM_REDIRECT_URI": {},
    "DEXCOM_API_BASE_URL": {},
    "PUBLIC_URL": {},
}


class TestEncryption:
    @pytest.mark.parametrize("environment", ["staging", "production"])
    @pytest.mark.parametrize("name", URL_SETTINGS)
    def test_s8_every_address_is_https_or_on_this_machine(self, load: Load, name: str, environment: str) -> None:
        others = PRODUCTION | {"ENVIRONMENT": environment} | URL_SETTINGS[name]
        others.pop(name, None)
        sentence = f"{name} should be https outside development, or an address of this machine."
        assert refusal(load, **others, **{name: "http://10.0.0.1:8000"}).splitlines()[1:] == [f"  - {sentence}"]
        for url in ("https://host.example", "http://localhost:8000", "http://[::1]:8000"):
            assert load(**{name: url}).environment == environment

    def test_s8_the_table_above_has_every_address(self) -> None:
        suffixes = ("_url", "_uri", "_endpoint", "_issuer")
        names = {name.upper() for name in Settings.model_fields if name.endswith(suffixes)}
        assert names - {"RABBITMQ_URL"} == URL_SETTINGS.keys()

    @pytest.mark.parametrize(
        ("url", "is_accepted"),
        [
            ("amqp://user:word@broker.example/v", False),
            ("amqps://user:word@broker.example/v?no_verify_ssl=1", False),
            ("amqps://user:word@broker.example/v?heartbeat=5&no_verify_ssl=", False),
            ("amqps://user:word@broker.example/v?no_verify_ssl=0&no_verify_ssl=1", False),
            ("amqps://user:word@broker.example/v?no_verify_ssl=0", True),
            ("amqps://user:word@broker.example/v", True),
            ("amqp://user:word@127.0.0.1/v", True),
        ],
    )
    def test_s8_the_broker_is_encrypted_and_verified(self, load: Load, url: str, *, is_accepted: bool) -> None:
        assert load(RABBITMQ_URL=url).rabbitmq_url
        for environment in ("staging", "production"):
            given_settings = PRODUCTION | {"ENVIRONMENT": environment, "RABBITMQ_URL": url}
            if is_accepted:
                assert load(**given_settings).rabbitmq_url
            else:
                text = refusal(load, **given_settings)
                assert "RABBITMQ_URL should be amqps without no_verify_ssl outside development" in text
                assert "word" not in text

    @pytest.mark.parametrize(
        "name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SECRETS_MANAGER"]
    )
    def test_s8_endpoints_of_aws_follow_the_rule(self, load: Load, name: str) -> None:
        text = refusal(load, **PRODUCTION, **{name: "http://10.0.0.1:4566"})
        assert f"{name} should be https outside development, or an address of this machine." in text
        assert load(**{name: "http://127.0.0.1:4566"}).environment == "production"

    @pytest.mark.parametrize(
        "lines",
        [
            "[default]\nservices = own\n[services own]\ndynamodb =\n  endpoint_url = http://10.0.0.1:8000\n",
            "[default]\nendpoint_url = http://10.0.0.1:80\nservices = own\n[services own]\nkms =\n  endpoint_url = http://[::1]\n",
        ],
    )
    def test_s8_endpoints_of_the_configuration_file_follow_the_rule(
        self, load: Load, tmp_path: Path, lines: str
    ) -> None:
        (tmp_path / "aws").write_text(lines)
        text = refusal(load, **PRODUCTION, AWS_CONFIG_FILE=str(tmp_path / "aws"))
        assert "endpoint_url in the AWS configuration file should be https" in text

    def test_s8_a_secret_is_not_read_without_encryption(self, load: Load) -> None:
        text = refusal(load, **PRODUCTION, SECRET_NAME="bg", AWS_ENDPOINT_URL="http://10.0.0.1:4566")
        assert text.startswith("The secret bg cannot be read: AWS_ENDPOINT_URL should be https")


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("amqps://user:p@ss@broker.example/v", "@ in the user, password or virtual host is %40"),
        ("amqps://us@er:pass@broker.example/v", "@ in the user, password or virtual host is %40"),
        ("amqps://user:12/3@broker.example/v", "/ is %2F, ? is %3F, # is %23"),
        ("amqps://user:1?3@broker.example/v", "/ is %2F, ? is %3F, # is %23"),
        ("amqps://user:1#3@broker.example/v", "/ is %2F, ? is %3F, # is %23"),
        ("amqps://user:p/w@broker.example/v", "special characters percent-encoded"),
    ],
)
def test_f19_a_bare_character_in_the_brokers_password_is_refused(load: Load, url: str, advice: str) -> None:
    (line,) = refusal(load, RABBITMQ_URL=url).splitlines()[1:]
    assert line.startswith("  - RABBITMQ_URL should be an address like amqps://user:password@host/vhost")
    assert advice in line
    assert "broker.example" not in line
