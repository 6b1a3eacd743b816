"""Path attributes of a BGP UPDATE or of a RIB entry.

Idea: many prefixes share one block of attributes, and RIB dumps repeat the same blocks for every
peer, so a block is parsed once and kept under its bytes; what is made of it (the encoded end of a
Route record) is kept with it.
Rule: RFC 4271 for the format, RFC 4760 for other families, RFC 6793 for AS numbers of four bytes,
RFC 7606 for errors: what it treats as a withdrawal is a `flaw` here, what it discards is left out.
A RIB entry was accepted by its collector already: there only what ranking needs must be right, and
MP_REACH_NLRI may hold the next hop alone (RFC 6396 4.3.4).
Odd but real: an AS_PATH with AS numbers of the other size than declared (collectors that write what
the session spoke), and the full MP_REACH_NLRI in TABLE_DUMP_V2.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

MAPPED = bytes(10) + b"\xff\xff"
AFI_BITS = {1: 32, 2: 128}
SAFI_UNICAST = 1
AS_TRANS = 23456

ORIGIN, AS_PATH, NEXT_HOP, MED, LOCAL_PREF, AGGREGATOR, COMMUNITIES = 1, 2, 3, 4, 5, 7, 8
MP_REACH, MP_UNREACH, AS4_PATH, AS4_AGGREGATOR = 14, 15, 17, 18
_SET, _SEQUENCE, _CONFED_SEQUENCE, _CONFED_SET = 1, 2, 3, 4
_BRACKETS = {_SET: "{,}", _SEQUENCE: "", _CONFED_SEQUENCE: "( )", _CONFED_SET: "[,]"}
#: Optional and transitive bits that each attribute must have (RFC 7606 3c).
_FLAGS = {
    ORIGIN: 0x40,
    AS_PATH: 0x40,
    NEXT_HOP: 0x40,
    LOCAL_PREF: 0x40,
    MED: 0x80,
    MP_REACH: 0x80,
    MP_UNREACH: 0x80,
    COMMUNITIES: 0xC0,
}

Segment = tuple[int, tuple[int, ...]]


class Reach(NamedTuple):
    """MP_REACH_NLRI or MP_UNREACH_NLRI: family, next hop (16 bytes, empty: none), prefixes."""

    afi: int
    safi: int
    next_hop: bytes
    nlri: bytes


@dataclass(slots=True)
class Attributes:
    """One block of path attributes. `flaw`: why its announcements are no routes, empty when they
    are; `cut`: the block ends inside an attribute, so that some may be missing. `tails` is the
    encoder's memory."""

    flaw: str = ""
    cut: bool = False
    as_path: str | None = None
    as_path_len: int = 0
    origin: bool = False
    next_hop: bytes = b""
    med: int | None = None
    local_pref: int | None = None
    communities: tuple[int, ...] = ()
    reach: Reach | None = None
    unreach: Reach | None = None
    tails: dict[bytes, bytes] = field(default_factory=dict)


class Context(NamedTuple):
    """How a block is to be read: bytes of an AS number, and whether it stands in a RIB dump."""

    as_size: int
    rib: bool


def parse_attributes(block: bytes, context: Context) -> Attributes:
    """A block of path attributes; never raises."""
    found = Attributes()
    values = _split(block, found, context)
    for kind, value in values.items():
        parse = _PARSERS.get(kind)
        flaw = parse(found, value, context) if parse else ""
        if flaw and not found.flaw:
            found.flaw = flaw
    path = values.get(AS_PATH)
    if path is not None:
        _set_path(found, path, values, context)
    return found


def _split(block: bytes, found: Attributes, context: Context) -> dict[int, bytes]:
    """Attribute values by type. The first of equals counts, but MP attributes must not be repeated
    (RFC 7606 3g)."""
    values: dict[int, bytes] = {}
    at, end = 0, len(block)
    while at < end:
        head = 4 if block[at] & 0x10 else 3  # extended length
        if at + head > end:
            found.cut = True
            break
        flags, kind = block[at], block[at + 1]
        size = int.from_bytes(block[at + 2 : at + head], "big")
        at += head + size
        if at > end:
            found.cut = True
            break
        if kind in values:
            if kind in (MP_REACH, MP_UNREACH):
                found.flaw = f"attribute {kind} twice"
            continue
        if not context.rib and flags & 0xC0 != _FLAGS.get(kind, flags & 0xC0):
            found.flaw = f"attribute {kind} has flags {flags:#04x}"
        values[kind] = block[at - size : at]
    if found.cut:
        found.flaw = "attributes end inside one"
    return values


# -- single attributes: each sets what it found and returns the flaw, empty without one ----------


def _origin(found: Attributes, value: bytes, _: Context) -> str:
    found.origin = True
    return "" if len(value) == 1 and value[0] <= 2 else "ORIGIN is none of three"


def _next_hop(found: Attributes, value: bytes, _: Context) -> str:
    if len(value) != 4:
        return f"NEXT_HOP of {len(value)} bytes"
    found.next_hop = MAPPED + value
    return ""


def _med(found: Attributes, value: bytes, _: Context) -> str:
    if len(value) != 4:
        return f"MULTI_EXIT_DISC of {len(value)} bytes"
    found.med = int.from_bytes(value, "big")
    return ""


def _local_pref(found: Attributes, value: bytes, _: Context) -> str:
    if len(value) != 4:
        return f"LOCAL_PREF of {len(value)} bytes"
    found.local_pref = int.from_bytes(value, "big")
    return ""


def _communities(found: Attributes, value: bytes, _: Context) -> str:
    if not value or len(value) % 4:
        return f"COMMUNITIES of {len(value)} bytes"
    found.communities = struct.unpack(f">{len(value) // 4}I", value)
    return ""


def _mp_reach(found: Attributes, value: bytes, context: Context) -> str:
    if (
        context.rib and value and value[0]
    ):  # abbreviated; in the full form the family's 0 stands here
        afi, safi, at = 0, SAFI_UNICAST, 0
    elif len(value) >= 5:
        afi, safi, at = int.from_bytes(value[:2], "big"), value[2], 3
    else:
        return f"MP_REACH_NLRI of {len(value)} bytes"
    size = value[at]
    hop, at = value[at + 1 : at + 1 + size], at + 1 + size
    if len(hop) < size or (at >= len(value) and not context.rib):
        return "MP_REACH_NLRI ends inside its next hop"
    if not afi or context.rib:  # what follows is of no interest
        found.reach = Reach(afi, safi, _global(hop), b"")
        return ""
    for _ in range(value[at]):  # subnetwork points of attachment, obsolete (RFC 4760 section 3)
        at += 1 + (value[at + 1] + 1) // 2 if at + 1 < len(value) else 0
    found.reach = Reach(afi, safi, _global(hop), value[at + 1 :])
    if afi in AFI_BITS and safi == SAFI_UNICAST and not found.reach.next_hop:
        return f"MP_REACH_NLRI with a next hop of {size} bytes"
    return ""


def _global(hop: bytes) -> bytes:
    """The global address of a next hop: IPv4, IPv6, or IPv6 with its link-local address beside."""
    if len(hop) == 4:
        return MAPPED + hop
    if len(hop) == 32:
        first, second = hop[:16], hop[16:]
        link_local = first[0] == 0xFE and first[1] & 0xC0 == 0x80
        return second if link_local and any(second) else first
    return hop if len(hop) == 16 else b""


def _mp_unreach(found: Attributes, value: bytes, _: Context) -> str:
    if len(value) < 3:
        return f"MP_UNREACH_NLRI of {len(value)} bytes"
    found.unreach = Reach(int.from_bytes(value[:2], "big"), value[2], b"", value[3:])
    return ""


_PARSERS: dict[int, Callable[[Attributes, bytes, Context], str]] = {
    ORIGIN: _origin,
    NEXT_HOP: _next_hop,
    MED: _med,
    LOCAL_PREF: _local_pref,
    COMMUNITIES: _communities,
    MP_REACH: _mp_reach,
    MP_UNREACH: _mp_unreach,
}

# -- AS paths -------------------------------------------------------------------------------------


def _set_path(found: Attributes, path: bytes, values: dict[int, bytes], context: Context) -> None:
    """AS_PATH, completed from AS4_PATH where the session spoke two bytes (RFC 6793 4.2.3)."""
    size = context.as_size
    segments = _segments(path, size)
    if segments is None:
        size = 6 - size
        segments = _segments(path, size)
    if segments is None:
        found.flaw = found.flaw or "AS_PATH is malformed"
        return
    newer = values.get(AS4_PATH)
    if newer is not None and size == 2 and not _old_aggregator(values):
        kept = [each for each in _segments(newer, 4) or () if each[0] in (_SET, _SEQUENCE)]
        segments = _merge(segments, tuple(kept))
    found.as_path, found.as_path_len = path_text(segments), path_hops(segments)


def _old_aggregator(values: dict[int, bytes]) -> bool:
    """Whether a router of two bytes aggregated after the last one of four: AS4_PATH is stale."""
    old = values.get(AGGREGATOR, b"")
    return AS4_AGGREGATOR in values and len(old) == 6 and int.from_bytes(old[:2], "big") != AS_TRANS


@lru_cache(maxsize=1 << 14)
def _segments(path: bytes, as_size: int) -> tuple[Segment, ...] | None:
    """(type, AS numbers) of each segment; None when the path is malformed (RFC 7606 7.2)."""
    segments: list[Segment] = []
    at, end = 0, len(path)
    form = "I" if as_size == 4 else "H"
    while at < end:
        if at + 2 > end:
            return None
        kind, count = path[at], path[at + 1]
        at += 2 + count * as_size
        if not count or at > end or kind not in _BRACKETS:
            return None
        segments.append((kind, struct.unpack_from(f">{count}{form}", path, at - count * as_size)))
    return tuple(segments)


@lru_cache(maxsize=1 << 14)
def path_hops(segments: tuple[Segment, ...]) -> int:
    """Length to compare: a set counts one (RFC 4271 9.1.2.2), confederations none (RFC 5065)."""
    return sum(
        len(numbers) if kind == _SEQUENCE else 1
        for kind, numbers in segments
        if kind in (_SEQUENCE, _SET)
    )


@lru_cache(maxsize=1 << 14)
def path_text(segments: tuple[Segment, ...]) -> str:
    """As routers print it: `3356 1299 {64496,64497}`, confederations as `(65001 65002)`."""
    parts = []
    for kind, numbers in segments:
        form = _BRACKETS[kind]
        if form:
            parts.append(form[0] + form[1].join(map(str, numbers)) + form[2])
        else:
            parts.append(" ".join(map(str, numbers)))
    return " ".join(parts)


def _merge(old: tuple[Segment, ...], new: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """The leading part of the old path that the new one does not have, then the new one."""
    missing = path_hops(old) - path_hops(new)
    if missing < 0 or not new:
        return old
    merged: list[Segment] = []
    for kind, numbers in old:
        if kind in (_CONFED_SEQUENCE, _CONFED_SET):
            merged.append((kind, numbers))
            continue
        if not missing:
            break
        taken = numbers[:missing] if kind == _SEQUENCE else numbers
        missing -= len(taken) if kind == _SEQUENCE else 1
        merged.append((kind, taken))
        if len(taken) < len(numbers):
            break
    return (*merged, *new)
