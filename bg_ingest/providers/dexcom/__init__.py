"""Dexcom's API v3: OAuth2, dataRange and egvs. There is no push; a pushed page would have the shape of egvs."""

from bg_ingest.providers.dexcom.client import Dexcom
from bg_ingest.providers.dexcom.settings import DexcomSettings
from bg_ingest.providers.dexcom.translate import decode_page

__all__ = ["Dexcom", "DexcomSettings", "decode_page"]
