"""Setting of the address at which browsers reach the service."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from bg_ingest.setting_types import HttpHost


def _check_origin(url: str) -> str:
    if url != _origin(url):
        raise ValueError("should be an address without a path: https://host or http://host:port")
    return url


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class PublicSettings(BaseModel):
    """Mixin of ``Settings``. Its field follows those of the providers: the default is computed from one of them."""

    public_url: Annotated[HttpHost, AfterValidator(_check_origin)] = Field(
        default_factory=lambda given: _origin(
            next(url for name, url in given.items() if name.endswith("_redirect_uri"))
        ),
    )
    """Origin of share links. By default the origin of the redirect URI, because browsers reach it after a login."""
