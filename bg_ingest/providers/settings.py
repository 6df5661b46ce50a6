"""Settings of a provider: a part of the service's settings, declared in the provider's folder."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from bg_ingest.ports import Clock, Provider

if TYPE_CHECKING:
    import httpx

    from bg_ingest.providers.http import DataClient


DelaySeconds = Annotated[int, Field(ge=0, le=86_400)]
"""Type of ``<PROVIDER>_DELAY_SECONDS``: fixed time from a measurement until it is shown. Unset: learned from polls."""


class ProviderSettings(BaseModel):
    """Mixin of ``Settings``. The names of its fields begin with the provider's name.

    ``Settings`` inherits all mixins, and each of them may define the methods below. A method is therefore called on the
    mixin's class, with the settings as its argument: ``part.fallbacks(settings)``.
    """

    required: ClassVar[Mapping[str, str]] = {}
    """Settings that staging and production need, each with the advice to the operator if it is missing."""
    coupled: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Settings that have no effect without others."""
    webhook_auth: ClassVar[str | None] = None
    """Name of the setting that lists the accepted proofs of webhooks (`signature`, `bearer`). None without pushes."""

    def fallbacks(self) -> Iterable[str]:
        """Return a sentence for each default that an operator should know of, and each part that is simulated."""
        return ()

    def build_provider(self, http: "httpx.AsyncClient", data: "DataClient", clock: Clock) -> Provider | None:
        """Return the provider; None where it is not set up.

        ``http`` comes from ``http_client()``; ``data``, the client for data reads, from ``open_data_client()``.
        """
        raise NotImplementedError

    def probe_url(self) -> str | None:
        """Return an address of the provider that shows whether it is reachable; None where it is not set up."""
        return None

    def proofs(self) -> tuple[str, ...]:
        """Return the accepted proofs of webhooks: `signature`, `bearer`."""
        proofs: Any = getattr(self, self.webhook_auth) if self.webhook_auth else ()
        return tuple(proofs)
