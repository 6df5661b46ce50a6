"""Requests to processes on this machine.

``httpx.get`` and its like read all certificates that the machine trusts at each call: 35 ms of processor, and whoever
waits for something asks twenty times a second.
"""

import ssl

import httpx

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that never leave this machine."""

web = httpx.Client(
    verify=NO_CERTIFICATES, trust_env=False, timeout=30, limits=httpx.Limits(max_keepalive_connections=0)
)
"""For requests that have nothing to do with each other."""
