"""Secrets and grants: no accidental output, fresh access tokens, planned retries, the context of a seal."""

import copy
import json
import logging
import pickle
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import structlog

from bg_ingest.domain.grants import REFUSAL_RETRY_DELAYS, Credentials, Secret, SecretBytes
from bg_ingest.domain.ids import ConnectionId, UserId
from tests.fakes.clock import NOON
from tests.harness.sample_values import grant

TEXT = "a-very-secret-token"
HIDDEN_SECRET = Secret(TEXT)
HIDDEN_SECRETS = (HIDDEN_SECRET, SecretBytes(TEXT.encode()))
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        "{}".format,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!s:>40}",
        lambda secret: "%s" % secret,  # noqa: UP031 - one of the ways to format
        lambda secret: str([secret, {"key": secret}]),
        lambda secret: repr(Credentials(secret, NOON)),
        lambda secret: repr(ValueError(secret)),
        lambda secret: str(ValueError(secret)),
        lambda secret: json.dumps({"secret": secret}, default=repr),
        lambda secret: logging.LogRecord("a", 10, "b", 1, "%s", (secret,), None).getMessage(),
        lambda secret: structlog.processors.JSONRenderer()(None, "info", {"event": secret}),
        lambda secret: structlog.dev.ConsoleRenderer(colors=False)(None, "info", {"event": "x", "secret": secret}),
    ],
)
def test_a_secret_is_shown_in_no_text(show: Any) -> None:
    for secret in HIDDEN_SECRETS:
        assert TEXT not in show(secret)


@pytest.mark.parametrize(
    "write",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        msgspec.json.encode,
        msgspec.msgpack.encode,
        msgspec.to_builtins,
        json.dumps,
        vars,
        bytes,
        list,
        lambda secret: secret.__getstate__(),
        lambda secret: secret.__reduce_ex__(4),
        lambda secret: msgspec.json.encode(Credentials(secret, NOON)),
        lambda secret: pickle.dumps(Credentials(secret, NOON)),
    ],
)
def test_a_secret_is_not_serialised(write: Any) -> None:
    for secret in HIDDEN_SECRETS:
        with pytest.raises(TypeError) as refused:
            write(secret)
        assert TEXT not in f"{refused.value} {refused.value!r}"


def test_equal_secrets_are_equal_and_revealed_by_one_method() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert HIDDEN_SECRET.reveal() == TEXT


@pytest.mark.parametrize(("jitter", "margin"), [(0, 60), (0.5, 90), (0.999, 120)])
def test_an_access_token_is_not_used_in_its_last_minute_or_two(jitter: float, margin: int) -> None:
    credentials = Credentials(SecretBytes(b"tokens"), NOON)
    assert not credentials.is_due(NOON - (margin + 1) * SECOND, jitter)
    assert credentials.is_due(NOON - (margin - 1) * SECOND, jitter)


def test_credentials_without_an_end_are_never_due() -> None:
    assert not Credentials(SecretBytes(b"token")).is_due(NOON + 3650 * timedelta(days=1), 0.5)


def test_a_grant_is_exhausted_by_the_refusal_after_the_last_planned_retry() -> None:
    assert not grant(refusals=len(REFUSAL_RETRY_DELAYS)).is_exhausted
    assert grant(refusals=len(REFUSAL_RETRY_DELAYS) + 1).is_exhausted


def test_a_seal_is_bound_to_table_user_provider_and_generation() -> None:
    own = grant().associated_data("table")
    others = [
        grant().associated_data("other"),
        grant(id=ConnectionId(UserId("ben"), "acme")).associated_data("table"),
        grant(id=ConnectionId(UserId("ada"), "other")).associated_data("table"),
        grant(generation="second").associated_data("table"),
    ]
    assert len({own, *others}) == 5
    assert grant(version=2).associated_data("table") == own, "a renewed pair is sealed to the same context"
