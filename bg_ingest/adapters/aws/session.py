"""The AWS session of this process. No other session is created; a test checks this.

The AWS library finds credentials, region, endpoints, certificates, proxies and retries by its own rules. The functions
here read the same configuration for clients that this service configures, and for calls that it makes without the
library. docs/operating/aws.md lists the configuration.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from os import environ  # noqa: TID251 - read as the AWS library does
from typing import Any, Literal

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError, ConfigParseError, ProfileNotFound
from botocore.httpsession import get_cert_path

from bg_ingest.errors import StoreError

START_CONFIG = AioConfig(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
"""Configuration of clients that are called once, at start. Time-outs in seconds; an outage is reported after 6 s."""

AWS_ERRORS = (BotoCoreError, ClientError, ValueError)
"""Errors of a client and of opening one. ValueError: AWS_ENDPOINT_URL or AWS_REGION has no valid form."""


@cache
def get_session() -> aioboto3.Session:
    """Return the session of this process; it is created at the first call.

    DynamoDB, KMS, Secrets Manager and table administration share it. It finds credentials, region and endpoints by
    AWS's own rules and keeps credentials and service models. It is bound to no event loop, because the secret of
    SECRET_NAME is read in a loop of its own: while the settings load, before anything is wired.
    """
    return aioboto3.Session()


def error_code(error: Exception) -> str:
    """Return AWS's code of an error, or the name of its class. Neither quotes the request or the response."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


def check_configuration() -> str | None:
    """Return a sentence if the configuration files of AWS cannot be used; None if they can, or do not exist."""
    try:
        ssl_context(get_session())
    except ProfileNotFound:
        name = next((name for name in ("AWS_DEFAULT_PROFILE", "AWS_PROFILE") if name in environ), "AWS_PROFILE")
        return f"{name} should name a profile of the AWS configuration files: correct it, or unset it."
    except ConfigParseError as error:
        path = error.kwargs.get("path", "A file")
        return (
            f"{path} cannot be read as an AWS configuration file: correct it, or name another one in AWS_CONFIG_FILE "
            "or AWS_SHARED_CREDENTIALS_FILE."
        )
    except OSError:
        name = next((name for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE") if name in environ), "ca_bundle")
        return f"{name} should name a readable file of certificates in PEM form: correct it, or unset it."
    except AWS_ERRORS as error:
        return f"The AWS configuration cannot be used ({error_code(error)}): check ~/.aws and the variables AWS_…."
    return None


def find_configured_endpoints() -> list[tuple[str, str]]:
    """Return the URLs that replace endpoints of AWS, each after its source: a variable, or the AWS file."""
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return []
    found = [(name, url) for name, url in environ.items() if name.startswith("AWS_ENDPOINT_URL") and url]
    core = _core(get_session())
    profile = core.get_scoped_config()
    services = core.full_config.get("services", {}).get(profile.get("services"), {})
    sections = (profile, *(values for values in services.values() if isinstance(values, dict)))
    urls = [str(section["endpoint_url"]) for section in sections if section.get("endpoint_url")]
    return [*found, *(("endpoint_url in the AWS configuration file", url) for url in urls)]


def find_ca_bundle(session: aioboto3.Session) -> str | None:
    """Return the configured file of certificates, by AWS's precedence; None: the certificates of the system."""
    return _core(session).get_config_variable("ca_bundle") or environ.get("REQUESTS_CA_BUNDLE") or None


@cache
def _load_certificates(path: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=path)


def ssl_context(session: aioboto3.Session) -> ssl.SSLContext | Literal[True]:
    """Return a context that trusts the configured certificates; True stands for those of the system, as in aiohttp."""
    bundle = find_ca_bundle(session)
    return _load_certificates(bundle) if bundle else True


def max_tries(session: aioboto3.Session, default: int) -> int:
    """Return the maximum number of tries of a call: AWS_MAX_ATTEMPTS, else ``max_attempts`` of the AWS file."""
    return max(1, _core(session).get_config_variable("max_attempts") or default)


def adapt_config(session: aioboto3.Session, config: AioConfig) -> AioConfig:
    """Return ``config`` with the retries of the AWS configuration, and with verified TLS through a proxy.

    With a proxy, aiobotocore 2.25 verifies certificates only if ``proxy_ca_bundle`` is set.
    """
    retries = {
        "mode": "adaptive" if _core(session).get_config_variable("retry_mode") == "adaptive" else "standard",
        "total_max_attempts": max_tries(session, config.retries["total_max_attempts"]),
    }
    bundle = find_ca_bundle(session) or get_cert_path(True)
    return config.merge(AioConfig(retries=retries, proxies_config={"proxy_ca_bundle": bundle}))


@contextmanager
def translate_configuration_errors() -> Iterator[None]:
    """Raise a StoreError for errors of opening a client or of finding credentials."""
    try:
        yield
    except (OSError, *AWS_ERRORS) as error:
        raise StoreError(
            f"The AWS configuration cannot be used ({error_code(error)}): check AWS_REGION, AWS_PROFILE, the files "
            "in ~/.aws and the other variables AWS_…."
        ) from None


def _core(session: aioboto3.Session) -> Any:  # noqa: ANN401 - botocore has no types
    """Return botocore's session, the only part with access to the configuration."""
    return session._session  # noqa: SLF001 - aioboto3 offers no other access
