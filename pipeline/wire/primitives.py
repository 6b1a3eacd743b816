"""Avro's primitive values as bytes, for records that are put together by hand.

Avro writes the fields of a record one behind the other and nothing in between, so a record whose
parts are known is their concatenation. Source: Avro 1.12 specification, binary encoding.
"""

from collections.abc import Sequence
from functools import lru_cache


@lru_cache(maxsize=1 << 16)
def long(value: int) -> bytes:
    """An int or long: zigzag, then variable length."""
    zigzag = (value << 1) ^ (value >> 63)
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def text(value: str) -> bytes:
    """A string."""
    data = value.encode()
    return long(len(data)) + data


def optional_long(value: int | None) -> bytes:
    """A ["null", "long"]."""
    return long(0) if value is None else long(1) + long(value)


def array(items: Sequence[bytes]) -> bytes:
    """An array of encoded items, in one block."""
    return (long(len(items)) + b"".join(items) if items else b"") + long(0)
