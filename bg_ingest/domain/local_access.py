"""Rule for requests that need no credential: they come from programs and pages of this machine.

The rule protects the simulated provider, and the API while it is open in development. Two kinds of attacker also
connect from this machine: a web page in a browser, and the remote end of a tunnel or proxy. The page can point its own
host name at this machine (DNS rebinding).
"""

import re
from collections.abc import Collection, Iterable
from enum import Enum, auto
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

_PROXY_HEADERS = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip"}
)
_PROXY_PREFIXES = ("x-forwarded", "x-original-")
"""Headers that only a proxy or tunnel adds. Browsers and other clients do not send them."""

_RELEVANT = re.compile(
    "|".join(map(re.escape, ("host", "origin", "sec-fetch-", *_PROXY_HEADERS, *_PROXY_PREFIXES))).encode(),
    re.IGNORECASE,
)
"""Matches the beginning of the header names that the rule reads. Other headers are skipped to save time."""

_OWN_SITES = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site for pages of this server, and for addresses that the person opened."""


class LocalRefusal(Enum):
    """Reason of a refusal."""

    UNKNOWN_HOST = auto()
    """The Host header is missing or repeated, or it has a name other than localhost and the configured ones."""
    OTHER_MACHINE = auto()
    """The request comes from another machine, or through a proxy or tunnel."""
    FOREIGN_ORIGIN = auto()
    """A page of another origin sends the request."""


class LocalRequest(msgspec.Struct, frozen=True):
    """Parts of an HTTP request that show its sender."""

    method: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, and values, of the relevant headers. A repeated header occurs several times."""
    client: str
    """Address of the other end of the connection; empty if it has none."""

    def values(self, name: str) -> list[str]:
        return [value.strip() for header, value in self.headers if header == name]


class LocalAccess:
    """Refuses requests from other machines, requests with a foreign host name, and requests of pages of other origins.

    ``proxied`` (API_OPEN=true) admits other machines and proxies. Host names and origins are checked nevertheless,
    because a browser that reaches the port may show a page of any site.
    """

    def __init__(self, own_names: Collection[str], *, proxied: bool) -> None:
        self._own_names = {"localhost", *(name.lower().removesuffix(".") for name in own_names)}
        self._proxied = proxied

    def find_refusal(self, request: LocalRequest, *, navigable: bool = False) -> LocalRefusal | None:
        """Return the reason to refuse a request. ``navigable``: a link of any site may open the page."""
        hosts = request.values("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return LocalRefusal.UNKNOWN_HOST
        if not self._proxied and (_is_proxied(request) or not _is_loopback(request.client)):
            return LocalRefusal.OTHER_MACHINE
        if _is_foreign(request, hosts[0]) and not (navigable and _is_navigation(request)):
            return LocalRefusal.FOREIGN_ORIGIN
        return None

    def _is_own(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        name = (name if port.isascii() and port.isdigit() else host).lower()
        return name.removesuffix(".") in self._own_names or _parse_address(name.strip("[]")) is not None


def parse_request(method: str, headers: Iterable[tuple[bytes, bytes]], client: tuple[str, int] | None) -> LocalRequest:
    """Return the parts of an ASGI request."""
    decoded = tuple(
        [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers if _RELEVANT.match(name)]
    )
    return LocalRequest(method, decoded, client[0] if client else "")


def _is_proxied(request: LocalRequest) -> bool:
    return any(name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIXES) for name, _ in request.headers)


def _is_foreign(request: LocalRequest, host: str) -> bool:
    """Return True for a request of a page of another origin. Programs send neither Sec-Fetch-Site nor Origin."""
    sites, origins = request.values("sec-fetch-site"), request.values("origin")
    if any(site.lower() not in _OWN_SITES for site in sites):
        return True
    if sites:  # forms of our own pages have the origin "null", because these pages send no referrer
        origins = [origin for origin in origins if origin != "null"]
    return any(origin.lower() not in {f"http://{host}".lower(), f"https://{host}".lower()} for origin in origins)


def _is_navigation(request: LocalRequest) -> bool:
    """Return True if a link opens the page in the browser (W3C, Fetch Metadata).

    The page with the link cannot read the opened one.
    """
    return (
        request.method in {"GET", "HEAD"}
        and request.values("sec-fetch-mode") == ["navigate"]
        and request.values("sec-fetch-dest") == ["document"]
        and not request.values("origin")
    )


def _is_loopback(client: str) -> bool:
    """Return True for a connection from this machine.

    A server that listens on every address may see an IPv4 address mapped to IPv6. A local socket has no address. Any
    other text that is no IP address counts as another machine.
    """
    if not client:
        return True
    address = _parse_address(client)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


@lru_cache(maxsize=64)
def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
