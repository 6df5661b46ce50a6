"""Addresses of this service: for listening, for display, and for requests from this machine."""

import os
import socket

EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound


class AddressUnusable(Exception):
    """The address is not available; the text is the reason."""


def listen_at(host: str, port: int, *, backlog: int) -> socket.socket:
    """Bind and listen, or raise AddressUnusable; port 0 selects a free one. ``::`` accepts both families of IP."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, backlog=backlog, dualstack_ipv6=both)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise AddressUnusable(f"{in_url(host)}:{port} ({reason})") from error


def in_url(host: str) -> str:
    """Return the host as URLs have it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def own_host(host: str) -> str:
    """Return the host, as in a URL, at which this machine reaches a server that listens on ``host``."""
    return "localhost" if host in EVERYWHERE or host.startswith("127.") else in_url(host)
