"""Keys that AWS KMS has wrapped: asked for once, at start; what is sealed never goes there.

The AWS library finds credentials and endpoint, as for everything of AWS.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import aioboto3

from bg_ingest.adapters.aws.session import AWS_ERRORS, START_CONFIG, error_code
from bg_ingest.adapters.sealing import KEY_BYTES
from bg_ingest.errors import KeyUnavailable

ENCRYPTION_CONTEXT = {"application": "bg-ingest", "purpose": "token-sealing"}
"""Bound to the wrapped key, shown in CloudTrail; a policy may ask for it (``kms:EncryptionContext:application``)."""

NAME_ADVICE = "name a KMS key of this account and region, by its id, ARN or alias/…"
ADVICE_BY_CODE = {
    "AccessDeniedException": "allow this identity {action} on the KMS key, and check AWS_REGION",
    "InvalidCiphertextException": "bring it back as it was made: it is altered, or was wrapped for something else",
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
        """Return a new wrapped key, of which nobody saw the plain one; ``kms_key`` is an id, ARN or alias."""
        with _translate_errors("A new key", "kms:GenerateDataKeyWithoutPlaintext"):
            made = await self._client.generate_data_key_without_plaintext(
                KeyId=kms_key, KeySpec="AES_256", EncryptionContext=ENCRYPTION_CONTEXT
            )
        if not made.get("CiphertextBlob"):
            raise KeyUnavailable("What answers makes no key", "check AWS_ENDPOINT_URL: is it AWS KMS")
        return bytes(made["CiphertextBlob"])

    async def unwrap(self, wrapped: bytes, name: str) -> bytes:
        """Return the plain key, 32 bytes; KeyUnavailable says why not, of the key by this name."""
        with _translate_errors(name, "kms:Decrypt"):
            answer = await self._client.decrypt(CiphertextBlob=wrapped, EncryptionContext=ENCRYPTION_CONTEXT)
        key = bytes(answer.get("Plaintext", b""))
        if len(key) != KEY_BYTES:
            raise KeyUnavailable(
                f"{name}: what AWS KMS unwraps is no key of {KEY_BYTES} bytes",
                "make one with bg-ingest keys create-encryption --kms, and check AWS_ENDPOINT_URL",
            )
        return key


@asynccontextmanager
async def open_kms(region: str | None, session: aioboto3.Session) -> AsyncIterator[Kms]:
    """Open KMS; region None leaves it to AWS's own rules. KeyUnavailable where it cannot be asked at all."""
    client = session.client("kms", region_name=region, config=START_CONFIG)
    async with AsyncExitStack() as opened:
        with _translate_errors("A key"):
            kms = Kms(await opened.enter_async_context(client))
        yield kms


@contextmanager
def _translate_errors(name: str, action: str = "") -> Iterator[None]:
    """Raise KeyUnavailable for what the AWS library raises: error codes only, never what was asked or answered."""
    try:
        yield
    except AWS_ERRORS as refused:
        code = error_code(refused)
        advice = ADVICE_BY_CODE.get(code, UNREACHABLE_ADVICE).format(action=action)
        raise KeyUnavailable(f"{name} cannot be had from AWS KMS ({code})", advice) from None
