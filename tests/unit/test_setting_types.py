"""Types of single settings."""

import base64
from random import Random

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from bg_ingest.setting_types import (
    BrokerUrl,
    HttpHost,
    HttpUrl,
    Proofs,
    SealingKeys,
    WrappedKey,
    decode_base64,
    encode_wrapped_key,
    is_loopback,
    is_private_url,
    is_strict,
    parse_sealing_key,
)

KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.9", True), ("::1", True), ("LOCALHOST", True), ("::", False)])
def test_loopback_is_this_machine(host: str, *, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_confidential_addresses_are_https_or_this_machine() -> None:
    assert [is_private_url(url) for url in ("https://a.example", "http://localhost:1", "http://a.example", "")] == [
        True,
        True,
        False,
        False,
    ]


def test_only_development_is_lenient() -> None:
    assert [is_strict(given) for given in ({}, {"environment": "Development"}, {"environment": "prod"})] == [
        False,
        False,
        True,
    ]


def test_base64_of_either_alphabet_is_decoded() -> None:
    assert decode_base64("-_-_") == decode_base64("+/+/") == b"\xfb\xff\xbf"
    assert decode_base64("QQ") == decode_base64("QQ==") == b"A"
    assert decode_base64("Q!") is None


def test_a_sealing_key_has_32_bytes() -> None:
    assert parse_sealing_key(f" {KEY}\n") == bytes(range(32))
    assert parse_sealing_key("QQ==") is None


@pytest.mark.parametrize(
    "key",
    [
        bytes(32),
        b"\xff" * 32,
        b"k" * 32,
        b"ab" * 16,
        b"0123456789abcde" * 2 + b"01",
        bytes(range(16)) * 2,
        b"passwordpasswordpasswordpassword",
        b"\x00" * 20 + bytes(range(200, 212)),
    ],
)
def test_s17_a_weak_sealing_key_is_refused(key: bytes) -> None:
    text = base64.b64encode(key).decode()
    assert parse_sealing_key(text) is None
    for keys in (text, f"{KEY},{text}"):
        with pytest.raises(ValidationError, match="each 32 random bytes"):
            TypeAdapter(SealingKeys).validate_python(keys)


def test_s17_random_keys_are_not() -> None:
    for seed in range(2_000):
        assert parse_sealing_key(base64.b64encode(Random(seed).randbytes(32)).decode()) is not None


def test_a_wrapped_key_is_read_as_it_is_written() -> None:
    plain, wrapped = TypeAdapter(SealingKeys).validate_python(f"{KEY}, {encode_wrapped_key(b'wrapped')}")
    assert plain.get_secret_value() == bytes(range(32))
    assert isinstance(wrapped, WrappedKey)
    assert wrapped.get_secret_value() == b"wrapped"


def test_proofs_are_known_in_any_case() -> None:
    assert TypeAdapter(Proofs).validate_python("Bearer,signature") == ("bearer", "signature")


@pytest.mark.parametrize("value", ["amqp://", "http://broker.example", "amqps://host:0"])
def test_a_broker_has_an_amqp_address(value: str) -> None:
    with pytest.raises(ValidationError, match="should be an address like amqps://"):
        TypeAdapter(BrokerUrl).validate_python(value)


class Addresses(BaseModel):
    environment: str
    public: HttpUrl = ""
    host: HttpHost = ""


def test_https_is_required_outside_development() -> None:
    assert Addresses(environment="development", public="http://a.example").public == "http://a.example"
    assert Addresses(environment="production", host="https://a.example/").host == "https://a.example"
    with pytest.raises(ValidationError, match="should be https outside development"):
        Addresses(environment="production", public="http://a.example")
