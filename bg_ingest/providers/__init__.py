"""Data sources: one folder for each provider, one line for each provider here."""

from collections.abc import Mapping

from bg_ingest.providers.dexcom.settings import DexcomSettings
from bg_ingest.providers.settings import ProviderSettings

REGISTRY: Mapping[str, type[ProviderSettings]] = {
    "dexcom": DexcomSettings,
}
"""Settings class of each provider by name. It builds the provider, and imports the provider's modules only then."""

PROVIDER_SETTINGS = tuple(REGISTRY.values())
"""Base classes of ``Settings``."""
