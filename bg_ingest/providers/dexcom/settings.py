"""Where Dexcom is, and who we are to it."""

from datetime import timedelta

import msgspec

from bg_ingest.domain.grants import Secret


class Region(msgspec.Struct, frozen=True):
    """A stack of its own: an app and a user's login exist in one, so login, token and data hosts change together."""

    url: str
    delay: timedelta
    """From a measurement until the API shows it, as integrators found it: Dexcom's pages do not say."""


REGIONS = {
    "us": Region("https://api.dexcom.com", timedelta(hours=1)),
    "ou": Region("https://api.dexcom.eu", timedelta(hours=3)),  # everywhere else
    "jp": Region("https://api.dexcom.jp", timedelta(hours=3)),
    "sandbox": Region("https://sandbox-api.dexcom.com", timedelta(hours=1)),  # data of the past, the rest like "us"
}


class DexcomSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may set. ``base_url`` stands for every region's host; ``delay`` for every region's delay."""

    client_id: str
    client_secret: Secret
    redirect_uri: str
    """Registered with Dexcom, the same to the letter."""
    default_region: str = "us"
    base_url: str | None = None
    delay: timedelta | None = None

    def __post_init__(self) -> None:
        if self.default_region not in REGIONS:
            raise ValueError(f"Dexcom's regions are {', '.join(REGIONS)}.")

    @property
    def delays(self) -> dict[str, timedelta]:
        return {name: region.delay if self.delay is None else self.delay for name, region in REGIONS.items()}

    def url(self, region: str, path: str) -> str:
        """Return an address in a region; the base may have a path of its own."""
        return (self.base_url or REGIONS[region].url).rstrip("/") + path
