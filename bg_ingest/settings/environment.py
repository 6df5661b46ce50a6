"""Checks of the surroundings of this process: variables that libraries read on their own, AWS files, the data folder.

The libraries report a wrong proxy, certificate file or AWS profile only at a call, each with errors of its own. These
values are therefore checked at the start, and proxies are changed to a form that every library accepts.
"""

import ipaddress
import os
import re
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from bg_ingest.setting_types import WrappedKey, is_loopback, is_private_url, is_strict

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")

PROXY_SCHEMES = ("http", "https", "all")
"""Prefixes of the variables: HTTP_PROXY, HTTPS_PROXY, and ALL_PROXY for a scheme whose own variable is not set."""


_PROXY, _HOST = re.compile(r"[!-~]+"), re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")


def check_environment(
    settings: Mapping[str, Any], provider_urls: Sequence[str | None], files: Sequence[Path]
) -> tuple[list[str], list[str]]:
    """Return problems, which prevent the start, and notes.

    ``settings`` are the values by name; ``provider_urls`` has None for a provider that is not set up; ``files`` are
    the SQLite file and the key file, which replace DynamoDB and the encryption keys in development.
    """
    names = ("jwt_issuer", "jwt_jwks_url", "webhook_jwt_issuer", "webhook_jwt_jwks_url", "traces_endpoint")
    urls = [url for url in (*provider_urls, *map(settings.get, names)) if url]
    aws_urls = _aws_urls(settings)
    problems, notes = describe_proxies(urls, aws_urls)
    problems += find_unreadable_certificates()
    if aws_urls:
        problems += check_aws(strict=is_strict(settings))
    # The data folder has the SQLite file and the key file. If a provider is not set up, it also has the journal of the
    # simulator.
    uses_data_dir = not (settings["dynamodb_table"] and settings["token_encryption_keys"]) or None in provider_urls
    if uses_data_dir and not is_strict(settings):
        problems += find_unusable_folder(settings["data_dir"], *files)
    return problems, notes


def check_aws(*, strict: bool) -> Iterator[str]:
    """Yield a sentence for each fault of the AWS configuration."""
    # Imported here, because it takes 0.3 s and is used only with AWS.
    from bg_ingest.adapters.aws.session import check_configuration, find_configured_endpoints  # noqa: PLC0415

    if problem := check_configuration():
        yield problem
        return
    if strict:
        # without repetition, because several endpoints may be in the AWS file
        for name in dict.fromkeys(name for name, url in find_configured_endpoints() if not is_private_url(url)):
            yield f"{name} should be https outside development, or an address of this machine."


def _aws_urls(settings: Mapping[str, Any]) -> list[str]:
    """Return the address of each AWS service that this process calls."""
    region = settings["aws_region"]
    wrapped_keys = [key for key in settings["token_encryption_keys"] if isinstance(key, WrappedKey)]
    services = (
        (settings["dynamodb_table"], settings["dynamodb_endpoint"] or aws_url("dynamodb", region)),
        (settings["secret_name"], aws_url("secrets_manager", region)),
        (wrapped_keys, aws_url("kms", region)),
    )
    return [url for is_used, url in services if is_used]


def aws_url(service: str, region: str | None) -> str:
    """Return the endpoint of a service, named as in AWS_ENDPOINT_URL_<SERVICE>. AWS files are not read."""
    environment = os.environ  # noqa: TID251 - read as the AWS library does
    names = (f"AWS_ENDPOINT_URL_{service.upper()}", "AWS_ENDPOINT_URL")
    default = f"https://{service.replace('_', '')}.{region or 'us-east-1'}.amazonaws.com"
    return next((environment[name] for name in names if environment.get(name)), default)


def clean_proxies() -> None:
    """Change the proxies in the environment of this process, for all libraries and child processes.

    Values that no library can use are removed, such as socks://, which desktops set. Networks in NO_PROXY are removed
    too, because httpx fails on them. Proxies without a scheme get one, because aiohttp requires it. This machine is
    called without a proxy.
    """
    environment = os.environ  # noqa: TID251 - changed for the libraries
    for scheme in PROXY_SCHEMES:
        for name in _names(f"{scheme}_proxy"):
            if not _is_usable(environment[name]):
                del environment[name]
            elif "://" not in environment[name]:
                environment[name] = f"http://{environment[name]}"
    hosts = [_clean_host(host) for host in getproxies().get("no", "").split(",")]
    direct = "*" if "*" in hosts else ",".join(dict.fromkeys((*filter(None, hosts), *LOOPBACK_HOSTS)))
    for name in ("no_proxy", *_names("no_proxy")):
        environment[name] = direct


def _clean_host(text: str) -> str | None:
    """Return an entry of NO_PROXY in a form that every library accepts; None if it has no such form."""
    host = text.strip()
    try:
        return str(ipaddress.ip_address(host.strip("[]").partition("%")[0]))
    except ValueError:
        host = host.removeprefix("*") or host
        return host if re.fullmatch(r"[A-Za-z0-9._-]+(:\d{1,5})?|\*", host) else None


def describe_proxies(urls: Sequence[str], aws_urls: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return problems and notes. An unusable proxy is a problem if a URL needs it, else a note.

    AWS tools ignore ALL_PROXY, and so does this service for calls to AWS.
    """
    problems, notes, proxies = [], [], getproxies()
    for scheme in PROXY_SCHEMES:
        if scheme not in proxies or _is_usable(proxies[scheme]):
            continue
        variable = next(iter(_names(f"{scheme}_proxy")), f"{scheme}_proxy")
        calls = urls if scheme == "all" else (*urls, *aws_urls)
        if hosts := sorted({urlsplit(url).netloc for url in calls if _scheme_of_proxy(url, proxies) == scheme}):
            problems.append(
                f"{variable} should be the address of an HTTP proxy, like http://host:3128 with special characters "
                f"percent-encoded: correct it, unset it, or add {', '.join(hosts)} to NO_PROXY."
            )
        else:
            notes.append(f"{variable} is not the address of an HTTP proxy: it is not used.")
    return problems, notes


def find_unreadable_certificates() -> Iterator[str]:
    """Yield a sentence if SSL_CERT_FILE, which calls to providers use, cannot be loaded."""
    path = os.environ.get("SSL_CERT_FILE")  # noqa: TID251 - read as OpenSSL and httpx do
    if path:
        try:
            _load_certificates(path)
        except OSError:  # ssl.SSLError is one
            yield "SSL_CERT_FILE should name a readable file of certificates in PEM form: correct it, or unset it."


def find_unusable_folder(folder: Path, *files: Path) -> Iterator[str]:
    """Yield a sentence if data cannot be kept in the folder, which is created at its first use."""
    existing = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    if not existing.is_dir():
        state = f"{existing} is not a folder"
    elif reason := _describe_failed_write(existing):
        state = f"nothing can be written to {existing} ({reason})"
    elif blocked := [file for file in files if os.access(file, os.F_OK) and not _is_writable_file(file)]:
        state = f"{blocked[0]} is not a file that this user may write"
    else:
        return
    yield f"DATA_DIR should be a folder for the data, but {state}: check DATA_DIR and its permissions."


@cache
def _load_certificates(path: str) -> None:
    """Load a file of certificates; OSError if it cannot be loaded. Cached, because a system's file takes 50 ms."""
    ssl.create_default_context(cafile=path)


def _describe_failed_write(folder: Path) -> str | None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _is_writable_file(file: Path) -> bool:
    return file.is_file() and os.access(file, os.R_OK | os.W_OK)


def _names(variable: str) -> list[str]:
    """Return the variables with this name in any letter case; the lower-case one, which Python prefers, is first."""
    environment = os.environ  # noqa: TID251 - read as urllib does
    return sorted((name for name in environment if name.lower() == variable), reverse=True)


def _is_usable(proxy: str) -> bool:
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        is_valid = parts.scheme in {"http", "https"} and parts.port != 0 and proxy.count("@") <= 1
        return is_valid and bool(_PROXY.fullmatch(proxy) and _HOST.fullmatch(parts.hostname or ""))
    except ValueError:
        return False


def _scheme_of_proxy(url: str, proxies: Mapping[str, str]) -> str | None:
    """Return the scheme whose proxy serves this URL; None for a direct call."""
    parts = urlsplit(url)
    if is_loopback(parts.hostname or "") or proxy_bypass(parts.hostname or ""):
        return None
    return next((scheme for scheme in (parts.scheme, "all") if scheme in proxies), None)
