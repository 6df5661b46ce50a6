"""Types of single settings: text of the operator, parsed and checked.

Messages finish the sentence "<NAME> should …" and never repeat the value: it may be a secret.
"""

import base64
import binascii
import ipaddress
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from socket import getaddrinfo
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretBytes, SecretStr, ValidationInfo
from pydantic_settings import NoDecode

SEALING_KEY_BYTES = 32
"""Bytes of a key that seals tokens (AES-256)."""
MIN_DISTINCT_BYTES = 16

KMS_PREFIX = "kms:"
MAX_WRAPPED_BYTES = 6144
"""Largest wrapped key that KMS unwraps."""

KEY_COMMAND = "openssl rand -base64 32"
API_KEY_COMMAND = "echo bgi_bootstrap_$(openssl rand -hex 32)"


def is_strict(given: Mapping[str, Any]) -> bool:
    """Return True outside development: staging and production require that every part is configured."""
    return str(given.get("environment", "development")).lower() != "development"


def is_loopback(host: str) -> bool:
    """Return True if the address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_private_url(url: str) -> bool:
    """Return True if the transport is encrypted with a verified certificate, or ends on this machine."""
    try:
        parts = urlsplit(url)
        # aiormq verifies the certificate only if no_verify_ssl is absent from the broker's address, or 0.
        is_verified = parse_qs(parts.query, keep_blank_values=True).get("no_verify_ssl", ["0"]) == ["0"]
        return (parts.scheme in {"https", "amqps"} and is_verified) or is_loopback(parts.hostname or "")
    except ValueError:
        return False


def is_own_host(host: str) -> bool:
    """Return True if this machine can listen on an address of the name. Any IP address is accepted unchecked."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return is_loopback(host) or any(map(_can_bind, _resolve(host)))
    return True


def _resolve(host: str) -> list[tuple[socket.AddressFamily, Any]]:
    try:
        addresses = getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: a label of the name is too long
        return []
    return [(family, address) for family, _, _, _, address in addresses]


def _can_bind(target: tuple[socket.AddressFamily, Any]) -> bool:
    family, address = target
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def decode_base64(text: str) -> bytes | None:
    """Decode base64 of either alphabet, with or without padding; None if it is invalid."""
    plain = text.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return None


def parse_sealing_key(text: str) -> bytes | None:
    """Return the key; None if the text is not 32 bytes in base64, or if they do not look random."""
    key = decode_base64(text.strip())
    return key if key and len(key) == SEALING_KEY_BYTES and not is_weak(key) else None


def is_weak(key: bytes) -> bool:
    """Return True if few bytes are distinct or both halves are equal, which is almost impossible for random bytes.

    32 random bytes have about 30 distinct values; one key in 3 * 10**16 has fewer than 16.
    """
    return len(set(key)) < MIN_DISTINCT_BYTES or key[: len(key) // 2] == key[len(key) // 2 :]


def _split(text: str) -> list[str]:
    return [part for part in (part.strip() for part in text.split(",")) if part]


class WrappedKey(SecretBytes):
    """A sealing key wrapped by AWS KMS; only KMS can unwrap it."""


def encode_wrapped_key(wrapped: bytes) -> str:
    return KMS_PREFIX + base64.b64encode(wrapped).decode()


def _parse_wrapped_key(text: str) -> WrappedKey | None:
    wrapped = decode_base64(text.removeprefix(KMS_PREFIX))
    return WrappedKey(wrapped) if wrapped and len(wrapped) <= MAX_WRAPPED_BYTES else None


def _parse_sealing_keys(text: str) -> tuple[bytes | WrappedKey, ...]:
    parts = _split(text)
    keys = [_parse_wrapped_key(part) if part.startswith(KMS_PREFIX) else parse_sealing_key(part) for part in parts]
    if not keys or not all(keys):
        raise ValueError(
            f"should be one or more keys with commas between, each 32 random bytes in base64 or {KMS_PREFIX} and a "
            f"key wrapped by AWS KMS; make one with: {KEY_COMMAND}"
        )
    return tuple(key for key in keys if key)


def _parse_signing_secrets(text: str) -> tuple[str, ...]:
    secrets = tuple(_split(text))
    for secret in secrets:
        prefix, _, encoded = secret.partition("_")
        # Standard Webhooks: 24 to 64 random bytes.
        if prefix != "whsec" or not 24 <= len(decode_base64(encoded) or b"") <= 64:
            raise ValueError(
                "should be one or more secrets with commas between, each whsec_ and 24 to 64 bytes in base64"
            )
    return secrets


def _check_api_key(key: SecretStr) -> SecretStr:
    if not re.fullmatch(r"bgi_[a-z0-9]{1,32}_[A-Za-z0-9_-]{43,128}", key.get_secret_value()):
        raise ValueError(
            "should be bgi_, a name of small letters and digits, _ and a secret of at least 43 letters and digits; "
            f"make one with: {API_KEY_COMMAND}"
        )
    return key


def _parse_proofs(text: str) -> tuple[str, ...]:
    proofs = tuple(_split(text.lower()))
    if not proofs or not set(proofs) <= {"signature", "bearer"}:
        raise ValueError("should be signature, bearer, or both with a comma between")
    return proofs


def _parse_host_names(text: str) -> tuple[str, ...]:
    names = tuple(name.lower().removesuffix(".") for name in _split(text))
    if not all(re.fullmatch(r"[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9_])?", name) for name in names):
        raise ValueError(
            "should be one or more host names with commas between, without scheme, port or *: bg-ingest,name.local"
        )
    return names


def _url_check(*schemes: str, example: str) -> Callable[[str], str]:
    def check(url: str) -> str:
        try:
            parts = urlsplit(url)
            fits = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:  # not chained: its text contains the value
            fits = False
        if not fits:
            raise ValueError(f"should be an address like {example}")
        return url

    return check


def _check_http_url(url: str, info: ValidationInfo) -> str:
    _url_check("https", "http", example="https://host or http://host:port")(url)
    if "@" in urlsplit(url).netloc:
        raise ValueError("should have no user name or password in it")
    if is_strict(info.data) and not is_private_url(url):
        raise ValueError("should be https outside development, or an address of this machine")
    return url


def _check_open(api_open: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
    if api_open and info.data.get("environment") != "development":
        raise ValueError("should be false outside development: it would show health data without authentication")
    return api_open


def _check_broker_url(url: SecretStr, info: ValidationInfo) -> SecretStr:
    text = url.get_secret_value()
    example = "amqps://user:password@host/vhost, special characters percent-encoded"
    if text.count("@") > 1:
        raise ValueError(f"should be an address like {example}: @ in the user, password or virtual host is %40")
    _url_check("amqps", "amqp", example=example)(text)
    if "@" in text and "@" not in urlsplit(text).netloc:  # the password contains /, ? or #
        raise ValueError(f"should be an address like {example}: / is %2F, ? is %3F, # is %23")
    if is_strict(info.data) and not is_private_url(text):
        raise ValueError("should be amqps without no_verify_ssl outside development, or an address of this machine")
    return url


def _expand_folder(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError("should be a folder: the user after ~ is not known here") from None


to_lower = BeforeValidator(lambda text: str(text).lower())
to_upper = BeforeValidator(lambda text: str(text).upper())

HttpUrl = Annotated[str, AfterValidator(_check_http_url)]
HttpHost = Annotated[HttpUrl, AfterValidator(lambda url: url.rstrip("/"))]
BrokerUrl = Annotated[SecretStr, AfterValidator(_check_broker_url)]
SealingKeys = Annotated[tuple[SecretBytes, ...], NoDecode, BeforeValidator(_parse_sealing_keys)]
SigningSecrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_parse_signing_secrets)]
Proofs = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_proofs)]
ApiKeyText = Annotated[SecretStr, AfterValidator(_check_api_key)]
HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_host_names)]
OpenFlag = Annotated[bool, AfterValidator(_check_open)]
Folder = Annotated[Path, AfterValidator(_expand_folder)]
Port = Annotated[int, Field(ge=1, le=65535)]
