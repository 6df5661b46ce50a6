"""Sealing keys that AWS KMS has wrapped. They are unwrapped once, at start; sealed data is never sent to KMS."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import aioboto3

from bg_ingest.adapters.aws.session import AWS_ERRORS, START_CONFIG, adapt_config, error_code
from bg_ingest.adapters.sealing import KEY_BYTES
from bg_ingest.errors import KeyUnavailable

ENCRYPTION_CONTEXT = {"application": "bg-ingest", "purpose": "token-sealing"}
"""Bound to the wrapped key and shown in CloudTrail. A policy can require it (``kms:EncryptionContext:application``)."""

NAME_ADVICE = "name a KMS key of this account and region, by its id, ARN or alias/…"
ADVICE_BY_CODE = {
    "AccessDeniedException": "allow this identity {action} on the KMS key, and check AWS_REGION",
    "InvalidCiphertextException": "restore the original value: it is altered, or has another encryption context",
    "NotFoundException": NAME_ADVICE,
    "ValidationException": NAME_ADVICE,
    "DisabledException": "enable the KMS key",
    "KMSInvalidStateException": "enable the KMS key, or cancel its deletion",
    "InvalidKeyUsageException": "use a symmetric KMS key that encrypts and decrypts",
    "NoRegionError": "set AWS_REGION",
}
UNREACHABLE_ADVICE = "check the network, AWS_REGION and the AWS credentials, and try again"


class Kms:
    """KMS of one region."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - aioboto3 has no types
        self._client = client

    async def new_key(self, kms_key: str) -> bytes:
        """Return a new wrapped key. The plain key never leaves KMS; ``kms_key`` is an id, ARN or alias."""
        with _translate_errors("A new key", "kms:GenerateDataKeyWithoutPlaintext"):
            response = await self._client.generate_data_key_without_plaintext(
                KeyId=kms_key, KeySpec="AES_256", EncryptionContext=ENCRYPTION_CONTEXT
            )
        if not response.get("CiphertextBlob"):
            raise KeyUnavailable(
                "The server at the endpoint returned no key", "check that AWS_ENDPOINT_URL leads to AWS KMS"
            )
        return bytes(response["CiphertextBlob"])

    async def unwrap(self, wrapped: bytes, name: str) -> bytes:
        """Return the plain key of 32 bytes. The text of KeyUnavailable begins with ``name``."""
        with _translate_errors(name, "kms:Decrypt"):
            response = await self._client.decrypt(CiphertextBlob=wrapped, EncryptionContext=ENCRYPTION_CONTEXT)
        key = bytes(response.get("Plaintext", b""))
        if len(key) != KEY_BYTES:
            raise KeyUnavailable(
                f"{name}: the value unwrapped by AWS KMS is not a key of {KEY_BYTES} bytes",
                "create one with bg-ingest keys create-encryption --kms, and check AWS_ENDPOINT_URL",
            )
        return key


@asynccontextmanager
async def open_kms(region: str | None, session: aioboto3.Session) -> AsyncIterator[Kms]:
    """Open KMS of ``region``; None: the region that the AWS library finds. KeyUnavailable: no client can be created."""
    async with AsyncExitStack() as stack:
        with _translate_errors("A key"):
            client = session.client("kms", region_name=region, config=adapt_config(session, START_CONFIG))
            kms = Kms(await stack.enter_async_context(client))
        yield kms


@contextmanager
def _translate_errors(name: str, action: str = "") -> Iterator[None]:
    """Raise KeyUnavailable for errors of the AWS library, with the error code, never the request or response."""
    try:
        yield
    except AWS_ERRORS as error:
        code = error_code(error)
        advice = ADVICE_BY_CODE.get(code, UNREACHABLE_ADVICE).format(action=action)
        raise KeyUnavailable(f"{name} cannot be had from AWS KMS ({code})", advice) from None
