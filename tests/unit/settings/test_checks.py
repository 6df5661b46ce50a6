"""Sentences about missing and wrong settings."""

from pathlib import Path

import pytest

from tests.harness.settings import PRODUCTION, Load, dexcom, refusal


def test_webhooks_by_token_need_their_issuer(load: Load) -> None:
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
def test_what_does_nothing_alone_asks_for_the_other(load: Load, alone: str, value: str, needed: list[str]) -> None:
    text = refusal(load, **{alone: value})
    assert [line.split()[1] for line in text.splitlines()[1:]] == needed
    assert f"{alone} is set and requires it" in text


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_everything_missing_is_listed_at_once(load: Load, environment: str) -> None:
    lines = refusal(load, ENVIRONMENT=environment).splitlines()[1:]
    assert {line.split()[1] for line in lines} == PRODUCTION.keys() - {"ENVIRONMENT"}
    assert all(" is missing: " in line for line in lines)


def test_wrong_and_missing_are_listed_together(load: Load) -> None:
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


def test_a_misspelt_environment_is_not_development(load: Load) -> None:
    text = refusal(load, ENVIRONMENT="prod")
    assert "ENVIRONMENT should be 'development', 'staging' or 'production'." in text
    assert "DYNAMODB_TABLE is missing" in text
    assert "LOG_FORMAT" not in text  # settings that depend on it are not reported


def test_lines_of_the_file_without_effect_are_reported_and_the_rest_is_read(folder: Path, load: Load) -> None:
    lines = (
        "PORT 5300",
        "# FOO BAR",
        "",
        'LOG_LEVEL="debug',
        "export PORT=5301",
        "HOST=127.0.0.1",
        "port=5302",
        "X: 1",
    )
    (folder / ".env").write_text("\n".join(lines))
    settings = load()
    assert (settings.port, settings.log_level) == (5302, "INFO")
    assert settings.notes == (
        "Line 1 of .env is not of the form NAME=value: it has no effect.",
        "Line 4 of .env is not of the form NAME=value: it has no effect.",
        "Line 8 of .env is not of the form NAME=value: it has no effect.",
        "PORT is set in lines 5, 7 of .env: keep one of them.",
    )
