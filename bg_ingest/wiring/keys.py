"""Sealing keys of the settings: plain ones, and those wrapped by AWS KMS."""

from bg_ingest.adapters.sealing import AesGcmSealer, new_key
from bg_ingest.ports import Sealer
from bg_ingest.setting_types import WrappedKey, encode_wrapped_key
from bg_ingest.settings import Settings, SettingsError
from bg_ingest.settings.environment import aws_url, check_aws, describe_proxies


async def build_sealer(settings: Settings) -> Sealer:
    """Return a sealer with all keys. KeyUnavailable: AWS KMS does not unwrap one of them."""
    keys = settings.sealing_keys()
    if not any(isinstance(key, WrappedKey) for key in keys):
        return AesGcmSealer([key for key in keys if isinstance(key, bytes)])
    from bg_ingest.adapters.aws.kms import open_kms
    from bg_ingest.adapters.aws.session import get_session

    async with open_kms(settings.aws_region, get_session()) as kms:
        return AesGcmSealer(
            [
                await kms.unwrap(key.get_secret_value(), f"Key {position} of TOKEN_ENCRYPTION_KEYS")
                if isinstance(key, WrappedKey)
                else key
                for position, key in enumerate(keys, 1)
            ]
        )


async def create_sealing_key(kms_key: str | None, region: str | None) -> str:
    """Return a new key in the form of TOKEN_ENCRYPTION_KEYS: plain, or wrapped by ``kms_key`` of AWS KMS.

    SettingsError: the proxy or the AWS configuration cannot be used.
    """
    if kms_key is None:
        return new_key()
    from bg_ingest.adapters.aws.kms import open_kms
    from bg_ingest.adapters.aws.session import get_session

    proxy_problems, _ = describe_proxies((), [aws_url("kms", region)])
    for problem in (*proxy_problems, *check_aws(strict=False)):
        raise SettingsError(problem)
    async with open_kms(region, get_session()) as kms:
        return encode_wrapped_key(await kms.new_key(kms_key))
