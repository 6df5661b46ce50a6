"""Dexcom's API v3: OAuth2, dataRange and egvs. It does not push; a pushed page would have the shape of egvs."""
