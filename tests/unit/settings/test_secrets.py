"""Secrets outside the environment: AWS Secrets Manager, and the generated key of development."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from bg_ingest.settings import Settings, SettingsError
from tests.harness.settings import PRODUCTION, Load, dexcom, refusal

ROOT = Path(__file__).parents[3]


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
        assert load(ENVIRONMENT="development").notes == (f"{sentence} Continuing without it.",)

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
        assert note.endswith("Continuing without it.")

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
