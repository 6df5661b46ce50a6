"""Data sources: one folder for each provider, one line for each provider here."""

from collections.abc import Mapping

from bg_ingest.providers.dexcom.settings import DexcomSettings
from bg_ingest.providers.settings import ProviderSettings

REGISTRY: Mapping[str, type[ProviderSettings]] = {
    "dexcom": DexcomSettings,
}
"""Settings of each provider by its name. They build the provider, and its modules are imported only then."""

PROVIDER_SETTINGS = tuple(REGISTRY.values())
"""Parts of ``Settings``."""
