"""Settings of Dexcom."""

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, SecretStr

from bg_ingest.addresses import own_host
from bg_ingest.domain.grants import Secret
from bg_ingest.ports import Clock, Provider
from bg_ingest.providers.dexcom import DexcomOptions
from bg_ingest.providers.settings import DelaySeconds, ProviderSettings
from bg_ingest.setting_types import HttpHost, HttpUrl, Proofs, is_strict, to_lower

if TYPE_CHECKING:
    import httpx

    from bg_ingest.providers.http import DataClient

FROM_APP = "take it from your app at developer.dexcom.com"


class DexcomSettings(ProviderSettings):
    """App of this service at Dexcom. Development without an app uses a simulated Dexcom."""

    dexcom_client_id: str | None = None
    dexcom_client_secret: SecretStr | None = None
    dexcom_redirect_uri: HttpUrl = Field(
        default_factory=lambda given: (
            f"http://{own_host(given.get('host', ''))}:{given['port']}/api/oauth/dexcom/callback"
        ),
    )
    dexcom_region: Annotated[Literal["us", "ou", "jp", "sandbox"], to_lower] = "us"
    dexcom_api_base_url: HttpHost | None = None
    dexcom_webhook_auth: Proofs = ("signature",)
    dexcom_delay_seconds: DelaySeconds | None = None

    required: ClassVar = {
        "dexcom_client_id": FROM_APP,
        "dexcom_client_secret": FROM_APP,
        "dexcom_redirect_uri": "set the redirect URI of your Dexcom app: https://<host>/api/oauth/dexcom/callback",
    }
    coupled: ClassVar = {
        "dexcom_client_id": ("dexcom_client_secret",),
        "dexcom_client_secret": ("dexcom_client_id",),
        "dexcom_api_base_url": ("dexcom_client_id", "dexcom_client_secret"),
    }
    webhook_auth: ClassVar = "dexcom_webhook_auth"

    @property
    def dexcom_simulated(self) -> bool:
        return self.dexcom_client_id is None

    def fallbacks(self) -> Iterable[str]:
        if self.dexcom_simulated:
            return ("No DEXCOM_CLIENT_ID: a simulated Dexcom at /simulator replaces it.",)
        if "dexcom_redirect_uri" not in self.model_fields_set:
            uri = self.dexcom_redirect_uri
            return (f"No DEXCOM_REDIRECT_URI: Dexcom redirects to {uri}, which your Dexcom app must list.",)
        return ()

    def build_provider(self, http: "httpx.AsyncClient", data: "DataClient", clock: Clock) -> Provider | None:
        # Imported here, because the client takes 0.3 s to import and settings are also read without it.
        from bg_ingest.providers.dexcom.client import Dexcom  # noqa: PLC0415

        options = self.dexcom_options()
        return Dexcom(options, http, data, clock) if options else None

    def probe_url(self) -> str | None:
        options = self.dexcom_options()
        return options.url(self.dexcom_region, "/v3/users/self/egvs") if options else None

    @property
    def dexcom_fixed_delay(self) -> timedelta | None:
        seconds = self.dexcom_delay_seconds
        return None if seconds is None else timedelta(seconds=seconds)

    def dexcom_options(self) -> DexcomOptions | None:
        if self.dexcom_client_id is None:
            return None
        return DexcomOptions(
            client_id=self.dexcom_client_id,
            client_secret=Secret(self.dexcom_client_secret.get_secret_value() if self.dexcom_client_secret else ""),
            redirect_uri=self.dexcom_redirect_uri,
            default_region=self.dexcom_region,
            base_url=self.dexcom_api_base_url,
            fixed_delay=self.dexcom_fixed_delay,
            sandbox_allowed=not is_strict(vars(self)),
        )
