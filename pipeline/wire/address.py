"""Addresses and prefixes: text, bytes and columns.

An address is 16 bytes, IPv4 mapped into ::ffff:0:0/96. A prefix is such an address with its host
bits zero and one more byte of length in that 128-bit space, so an IPv4 /24 is 120 long. In columns
an address is two big-endian halves of 64 bits, `hi` and `lo`: comparing (hi, lo) compares
addresses.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.errors import WireError
from pipeline.reasons import Refusal

ADDRESS_SIZE = 16
PREFIX_SIZE = 17
MAPPED = b"\0" * 10 + b"\xff\xff"
#: Length of ::ffff:0:0/96, which an IPv4 prefix's own length is added to.
MAPPED_LENGTH = 96
#: Both halves read at once: 4 ns an address; each sliced out and read by itself takes 32.
_TWO_WORDS = pl.Array(pl.UInt64, 2)
#: A prefix as it stands on the wire.
_PREFIX = np.dtype([("hi", ">u8"), ("lo", ">u8"), ("length", "u1")])

Halves = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]


def parse_address(text: str) -> bytes:
    """Such as "203.0.113.7" or "2001:db8::1" as 16 bytes; WireError UNDECODABLE for anything else,
    an address that is only good on one interface (fe80::1%eth0) among it."""
    try:
        address = ip_address(text.strip())
    except ValueError as error:
        raise WireError(Refusal.UNDECODABLE, f"not an address: {error}") from None
    if "%" in text:
        raise WireError(Refusal.UNDECODABLE, f"not an address: {text.strip()!r} has a zone")
    return MAPPED + address.packed if address.version == 4 else address.packed


def format_address(address: bytes) -> str:
    """16 bytes as text; a mapped IPv4 address is shown dotted."""
    if address.startswith(MAPPED):
        return str(IPv4Address(address[12:]))
    return str(IPv6Address(address))


def parse_prefix(text: str) -> bytes:
    """Such as "203.0.113.0/24" as 17 bytes; without a length, the one address. WireError HOST_BITS
    where bits behind the length are set, BAD_PREFIX_LENGTH where the length is none, else
    UNDECODABLE."""
    base, slash, digits = text.strip().partition("/")
    address = parse_address(base)
    room = 32 if "." in base and ":" not in base else 128
    if slash and not (digits.isascii() and digits.isdigit() and int(digits[:4]) <= room):
        raise WireError(Refusal.BAD_PREFIX_LENGTH, f"{text.strip()}: not a length of 0 to {room}")
    length = 128 - room + (int(digits) if slash else room)
    if int.from_bytes(address, "big") & ((1 << (128 - length)) - 1):
        raise WireError(
            Refusal.HOST_BITS, f"{text.strip()}: meant {ip_network(text.strip(), strict=False)}?"
        )
    return address + bytes((length,))


def format_prefix(prefix: bytes) -> str:
    """17 bytes as text; inside ::ffff:0:0/96 as IPv4."""
    address, length = prefix[:ADDRESS_SIZE], prefix[ADDRESS_SIZE]
    if length >= MAPPED_LENGTH and address.startswith(MAPPED):
        length -= MAPPED_LENGTH
    elif address.startswith(MAPPED):
        return f"{IPv6Address(address)}/{length}"
    return f"{format_address(address)}/{length}"


def halves(series: pl.Series) -> Halves:
    """The (hi, lo) halves of a Binary column of 16-byte addresses, uint64 each."""
    words = series.bin.reinterpret(dtype=_TWO_WORDS, endianness="big").to_numpy()
    return np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1])


def prefix_columns(
    series: pl.Series,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """(hi, lo, length) of a Binary column of 17-byte prefixes; lengths may be wrong (over 128)."""
    read = np.frombuffer(b"".join(series.to_list()), dtype=_PREFIX)
    return read["hi"].astype(np.uint64), read["lo"].astype(np.uint64), read["length"].copy()


def prefix_bytes(
    hi: npt.NDArray[np.uint64], lo: npt.NDArray[np.uint64], length: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """The inverse of `prefix_columns`: a matrix (rows x 17) of bytes."""
    out = np.empty((len(hi), PREFIX_SIZE), dtype=np.uint8)
    out[:, 0:8] = hi.astype(">u8").view(np.uint8).reshape(-1, 8)
    out[:, 8:16] = lo.astype(">u8").view(np.uint8).reshape(-1, 8)
    out[:, 16] = length
    return out


def masks(length: npt.NDArray[np.uint8]) -> Halves:
    """(hi, lo) network masks of prefix lengths; a length over 128 counts as 128."""
    bits = np.minimum(length, 128).astype(np.intp)
    return _MASKS[np.minimum(bits, 64)], _MASKS[np.maximum(bits, 64) - 64]


#: Mask of the upper n bits of 64, for n = 0 to 64.
_MASKS = np.array([((1 << n) - 1) << (64 - n) for n in range(65)], dtype=np.uint64)
