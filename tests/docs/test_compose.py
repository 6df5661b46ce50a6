"""compose.yaml is consistent in itself and with the service: its settings, its drain, its image."""

from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema  # type: ignore[import-untyped]  # ships no types
import msgspec
import pytest
import yaml  # type: ignore[import-untyped]  # ships no types

from bg_ingest.server import KILL_TIMEOUT_SECONDS
from bg_ingest.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OUR_SERVICES = [name for name, service in SERVICES.items() if "build" in service]

SCHEMA = "builtin_schemas/vendor/compose-spec.json"
"""The Compose project's own schema, contained in check-jsonschema."""

each_service = pytest.mark.parametrize("name", SERVICES)
each_our_service = pytest.mark.parametrize("name", OUR_SERVICES)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Settings of the service with .env.example, unchanged, as .env."""
    monkeypatch.chdir(tmp_path)
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    unset = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    for setting, value in {**unset, **SERVICES["bg-ingest"]["environment"]}.items():
        monkeypatch.setenv(setting, value)
    return Settings()


@pytest.mark.slow
def test_it_conforms_to_the_compose_specification() -> None:
    schema = msgspec.json.decode(files("check_jsonschema").joinpath(SCHEMA).read_bytes())
    jsonschema.validators.validator_for(schema)(schema).validate(COMPOSE)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**COMPOSE, "services": {"bg-ingest": {"imagee": "x"}}}, schema)


def test_it_contains_the_service_its_table_and_the_real_parts() -> None:
    assert set(SERVICES) == {"bg-ingest", "tables", "dynamodb-local", "rabbitmq"}
    assert OUR_SERVICES == ["bg-ingest", "tables"]


def test_the_example_settings_work_unchanged(settings: Settings) -> None:
    assert (settings.store, settings.publisher) == ("dynamodb", "rabbitmq")
    assert settings.notes == ()


@each_our_service
def test_the_environment_contains_only_settings_and_aws_credentials(name: str) -> None:
    known = {setting.upper() for setting in Settings.model_fields}
    credentials = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}  # otherwise they are searched in the network
    assert credentials <= set(SERVICES[name]["environment"]) <= known | credentials


def test_the_service_addresses_its_parts_correctly(settings: Settings) -> None:
    assert settings.dynamodb_endpoint is not None
    assert settings.rabbitmq_url is not None
    broker = urlsplit(settings.rabbitmq_url.get_secret_value())
    login = SERVICES["rabbitmq"]["environment"]
    assert urlsplit(settings.dynamodb_endpoint).hostname in SERVICES
    assert broker.hostname in SERVICES
    assert (broker.username, broker.password) == (login["RABBITMQ_DEFAULT_USER"], login["RABBITMQ_DEFAULT_PASS"])


def test_each_service_starts_after_the_services_it_needs() -> None:
    assert SERVICES["bg-ingest"]["depends_on"] == {
        "tables": {"condition": "service_completed_successfully"},
        "rabbitmq": {"condition": "service_healthy"},
    }
    assert SERVICES["tables"]["depends_on"] == {"dynamodb-local": {"condition": "service_healthy"}}
    assert SERVICES["tables"]["command"] == ["tables", "create"]


@pytest.mark.parametrize("name", ["dynamodb-local", "rabbitmq"])
def test_each_awaited_service_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@each_service
def test_ports_are_published_to_this_machine_only(name: str) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


def test_the_published_port_leads_to_the_service(settings: Settings) -> None:
    assert SERVICES["bg-ingest"]["ports"] == [f"127.0.0.1:5001:{settings.port}"]
    assert settings.host == "0.0.0.0"  # noqa: S104 - of the container, not of this machine


@each_our_service
def test_our_services_are_unprivileged_and_write_to_their_volume_only(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["volumes"] == [f"data:{service['environment']['DATA_DIR']}"]
    assert not {"privileged", "cap_add", "user", "network_mode", "pid"} & set(service)


def test_the_grace_period_is_longer_than_the_drain() -> None:
    assert SERVICES["bg-ingest"]["stop_grace_period"] == "40s"
    assert KILL_TIMEOUT_SECONDS < 40


@each_service
def test_named_volumes_are_declared(name: str) -> None:
    used = {volume.partition(":")[0] for volume in SERVICES[name].get("volumes", ())}
    assert used <= set(COMPOSE["volumes"])
