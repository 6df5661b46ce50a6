"""Dexcom's API v3: OAuth2, dataRange and egvs.

Dexcom does not push. `parse_push` nevertheless accepts pages in the shape of egvs.

This module holds the addresses of the API, and the options of this service's app at Dexcom.
"""

from datetime import timedelta

import msgspec

from bg_ingest.domain.grants import Secret

REGION_URLS = {
    "us": "https://api.dexcom.com",
    "ou": "https://api.dexcom.eu",  # everywhere else
    "jp": "https://api.dexcom.jp",
    "sandbox": "https://sandbox-api.dexcom.com",  # old data, otherwise like "us"
}
"""Separate stacks: an app and a user's login exist in one only, so login, token and data hosts change together."""

SANDBOX = "sandbox"
"""Region with test data, which anybody may log in to."""

INITIAL_DELAYS = {
    "us": timedelta(hours=1),
    "ou": timedelta(hours=3),
    "jp": timedelta(hours=3),
    "sandbox": timedelta(hours=1),
}
"""Time from a measurement until the API shows it, as integrators measured it: Dexcom's pages do not state it. The
delay of each connection is learned, beginning with this value, because it differs by app: partners' apps see readings
immediately."""


class DexcomOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the client. ``base_url`` replaces the host, and ``delay`` the initial delay, of every region."""

    client_id: str
    client_secret: Secret
    redirect_uri: str
    """Callback address, exactly as registered with Dexcom."""
    default_region: str = "us"
    base_url: str | None = None
    delay: timedelta | None = None
    fixed_delay: timedelta | None = None
    """Delay set by the operator, instead of the learned one."""
    sandbox_allowed: bool = True
    """If False, a connect request may choose the sandbox only if that is the default region."""

    def __post_init__(self) -> None:
        if self.default_region not in REGION_URLS:
            raise ValueError(f"Dexcom's regions are {', '.join(REGION_URLS)}.")

    @property
    def initial_delays(self) -> dict[str, timedelta]:
        return INITIAL_DELAYS if self.delay is None else dict.fromkeys(REGION_URLS, self.delay)

    def url(self, region: str, path: str) -> str:
        """Return an address in a region; the base may have a path of its own."""
        return (self.base_url or REGION_URLS[region]).rstrip("/") + path
