"""Requests to processes on this machine.

``httpx.get`` reads all trusted certificates of the machine at each call, which takes 35 ms of CPU time. Tests that wait
for a process send twenty requests per second.
"""

import ssl

import httpx

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that never leave this machine."""

web = httpx.Client(
    verify=NO_CERTIFICATES, trust_env=False, timeout=30, limits=httpx.Limits(max_keepalive_connections=0)
)
"""For independent requests."""
