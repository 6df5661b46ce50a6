"""Encryption of secrets at rest: AES-256-GCM with a key ring, so that the old and the new key work during a rotation.

Layout: magic and version (1 byte), algorithm (1), key id (8), nonce (12), ciphertext with its tag (16). The bytes
before the nonce are authenticated together with the caller's associated data.
"""

import base64
import os
from collections.abc import Sequence
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bg_ingest.errors import SealBroken

KEY_BYTES = 32
_FORMAT = bytes([0xB1, 1])
"""0xB1: magic and version of this layout. 1: AES-256-GCM."""
_ID_BYTES, _NONCE_BYTES = 8, 12
_HEADER_BYTES = len(_FORMAT) + _ID_BYTES


class AesGcmSealer:
    """Sealer with a key ring: the first key seals, every key opens.

    Random nonces are safe for 2**32 seals per key, far more than the service makes.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a key ring needs at least one key, each of {KEY_BYTES} bytes")
        self._ciphers = {_FORMAT + _key_id(key): AESGCM(key) for key in keys}
        self._header = _FORMAT + _key_id(keys[0])

    def seal(self, secret: bytes, associated: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._header].encrypt(nonce, secret, self._header + associated)
        return self._header + nonce + sealed

    def is_current(self, sealed: bytes) -> bool:
        return sealed.startswith(self._header)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Return the secret. SealBroken: its key is not in the key ring, or a byte was altered."""
        header, rest = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        cipher = self._ciphers.get(header)
        if cipher is None:
            raise SealBroken
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], header + associated)
        except (InvalidTag, ValueError):  # ValueError: the sealed bytes end within the nonce
            raise SealBroken from None


def new_key() -> str:
    """Return a random key as text in base64."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def _key_id(key: bytes) -> bytes:
    return blake2b(key, digest_size=_ID_BYTES, person=b"bg-ingest key id").digest()
