"""Stateless random numbers: each depends only on its key and its position."""

import hashlib

_MASK = (1 << 64) - 1


def key_of(*parts: object) -> int:
    """Return a 64-bit key for the parts, the same in every process (unlike Python's own `hash`)."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def hex_of(*parts: object) -> str:
    """Return 64 lower-case hexadecimal digits: the form of Dexcom's hashed ids."""
    return hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()


def chance(key: int, index: int) -> float:
    """Return a number in [0, 1), by the splitmix64 finalizer (Steele et al. 2014): a tenth of the cost of a digest."""
    mixed = (key + index * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)
