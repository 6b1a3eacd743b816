"""Prefixes as BGP writes them (NLRI, RFC 4271 4.3): a length in bits, then as few bytes as needed.

Idea: the same prefixes come again and again, from every peer and at every change, so what is known
of one (its 17 bytes, its text, whether it is refused) is kept under its bytes on the wire, and a
field of many prefixes is a walk through a dictionary.
Rule: trailing bits behind the length are irrelevant (RFC 4271 4.3) and cleared; there are files
with them. Default routes and bogons are refused (pipeline/wire/bogons.py).
Rejected: NumPy over a field, since most fields hold one to four prefixes.
"""

from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_network
from socket import AF_INET, AF_INET6, inet_ntop

from pipeline.reasons import Refusal
from pipeline.wire.bogons import IPV4, is_bogon_prefix, is_default_prefix

MAPPED = bytes(10) + b"\xff\xff"
#: Prefixes remembered per family; more than a full table has, and at most a few hundred MB.
REMEMBERED_MAX = 1 << 20


#: One prefix as read: why it is refused (None: it is not), 17 bytes, text as in a record's key. A
#: plain tuple, since the garbage collector stops looking at those and a million are kept.
Prefix = tuple[Refusal | None, bytes, bytes]
_LENGTHS = [bytes([length]) for length in range(129)]


def _suspects() -> bytes:
    """For each first byte of an IPv4 address: may it be a default route or a bogon?"""
    blocks = [ip_network(name) for name in IPV4]
    return bytes(
        any(int(block[0]) >> 24 <= first <= int(block[-1]) >> 24 for block in blocks)
        for first in range(256)
    )


_SUSPECT = _suspects()
BAD_LENGTH: Prefix = (Refusal.BAD_PREFIX_LENGTH, b"", b"")


@dataclass(slots=True)
class Field:
    """What a field of prefixes held. `path_ids` as long as `prefixes`, or empty without ADD-PATH;
    `broken`: the field ends inside a prefix, or goes on behind one of impossible length."""

    prefixes: list[Prefix] = field(default_factory=list)
    path_ids: list[int] = field(default_factory=list)
    broken: bool = False


class PrefixReader:
    """Reads the prefixes of one family, 32 or 128 `bits` wide; prefixes that had trailing bits are
    counted in `noted`."""

    def __init__(
        self, bits: int, noted: Counter[str], *, allow_documentation: bool = False
    ) -> None:
        self.bits = bits
        self._noted = noted
        self._allow_documentation = allow_documentation
        self._known: dict[bytes, Prefix] = {}
        self._make = self._make4 if bits == 32 else self._make6
        self._start = 16 - bits // 8  # where the address's own bytes start in the 128-bit space
        # bytes that a prefix takes with its length byte, by length; 0 for impossible lengths
        self._sizes = bytes(1 + (n + 7) // 8 if n <= bits else 0 for n in range(256))

    def read(self, data: bytes, *, add_path: bool = False) -> Field:
        """All prefixes of a field. Some collectors write ADD-PATH prefixes into records that do not
        say so: a field that reads as nonsense without path identifiers is tried with them."""
        if add_path:
            return self._read_with_ids(data)
        plain = self._read_plain(data)
        if plain.broken or _repeats_default(plain.prefixes):
            tried = self._read_with_ids(data)
            if not tried.broken and tried.prefixes:
                return tried
        return plain

    def _read_plain(self, data: bytes) -> Field:
        found = Field()
        sizes, known, append = self._sizes, self._known, found.prefixes.append
        at, end = 0, len(data)
        while at < end:
            size = sizes[data[at]]
            raw = data[at : at + size]
            at += size
            prefix = known.get(raw)
            if prefix is None:
                if at > end or not size:
                    found.broken = True
                    if not size:
                        append(BAD_LENGTH)
                    break
                prefix = self._learn(raw)
            append(prefix)
        return found

    def _read_with_ids(self, data: bytes) -> Field:
        found = Field()
        at, end = 0, len(data)
        while at < end:
            size = self._sizes[data[at + 4]] if at + 4 < end else 0
            if not size or at + 4 + size > end:
                found.broken = True
                if at + 4 < end and not size:
                    found.prefixes.append(BAD_LENGTH)
                    found.path_ids.append(int.from_bytes(data[at : at + 4], "big"))
                break
            found.path_ids.append(int.from_bytes(data[at : at + 4], "big"))
            raw = data[at + 4 : at + 4 + size]
            found.prefixes.append(self._known.get(raw) or self._learn(raw))
            at += 4 + size
        return found

    def single(self, raw: bytes) -> Prefix:
        """One prefix: its length byte and as many bytes as it needs."""
        if raw[0] > self.bits:
            return BAD_LENGTH
        return self._known.get(raw) or self._learn(raw)

    def full(self, address: bytes, length: int) -> Prefix:
        """A prefix written with all bytes of its address (TABLE_DUMP), where bits behind the length
        are a mistake: HOST_BITS."""
        if length > self.bits:
            return BAD_LENGTH
        size = (length + 7) // 8
        prefix = self._make(address[:size], length)
        if prefix[1][self._start : 16] != address:
            return (Refusal.HOST_BITS, b"", b"")
        return prefix

    def _learn(self, raw: bytes) -> Prefix:
        prefix = self._make(raw[1:], raw[0])
        if not prefix[1].startswith(raw[1:], self._start):
            self._noted["trailing_bits"] += 1  # counted each time, so not remembered
            return prefix
        if len(self._known) >= REMEMBERED_MAX:
            self._known.clear()
        self._known[raw] = prefix
        return prefix

    def _make4(self, significant: bytes, length: int) -> Prefix:
        host = 32 - length
        number = int.from_bytes(significant.ljust(4, b"\0"), "big") >> host << host
        address = number.to_bytes(4, "big")
        packed = MAPPED + address + _LENGTHS[length + 96]
        refusal = None
        if _SUSPECT[address[0]]:
            refusal = self._refusal(packed)
        return (refusal, packed, f"{inet_ntop(AF_INET, address)}/{length}".encode())

    def _make6(self, significant: bytes, length: int) -> Prefix:
        host = 128 - length
        number = int.from_bytes(significant.ljust(16, b"\0"), "big") >> host << host
        address = number.to_bytes(16, "big")
        packed = address + _LENGTHS[length]
        # IPv4-mapped in an IPv6 field would pass for IPv4 behind the wire
        mapped = address.startswith(MAPPED)
        refusal = Refusal.BOGON if mapped else self._refusal(packed)
        return (refusal, packed, f"{inet_ntop(AF_INET6, address)}/{length}".encode())

    def _refusal(self, packed: bytes) -> Refusal | None:
        if is_default_prefix(packed):
            return Refusal.DEFAULT_ROUTE
        bogon = is_bogon_prefix(packed, self._allow_documentation)
        return Refusal.BOGON if bogon else None


def _repeats_default(prefixes: list[Prefix]) -> bool:
    """Path identifiers start with zero bytes, which read as default routes."""
    return (
        len(prefixes) > 1
        and prefixes[0][0] is Refusal.DEFAULT_ROUTE
        and prefixes[1][0] is Refusal.DEFAULT_ROUTE
    )
