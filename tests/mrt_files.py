"""A tiny MRT encoder: the other side of the reader, written from the RFCs and not from it."""

import struct
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from pipeline.feeds.compressed import Source
from pipeline.feeds.mrt import MrtReader
from pipeline.feeds.routes import RouteFeed
from pipeline.wire.decode import decode

TABLE_DUMP, TABLE_DUMP_V2, BGP4MP, BGP4MP_ET = 12, 13, 16, 17
MARKER = b"\xff" * 16
AT = 1_700_000_000
AT_MS = AT * 1000
PEER, LOCAL = "80.249.208.10", "80.249.208.1"


def record(kind: int, subtype: int, body: bytes, at: int = AT) -> bytes:
    return struct.pack(">IHHI", at, kind, subtype, len(body)) + body


def nlri(*prefixes: str, path_id: int | None = None) -> bytes:
    out = b""
    for text in prefixes:
        network = ip_network(text, strict=False)
        size = (network.prefixlen + 7) // 8
        packed = ip_address(text.split("/")[0]).packed
        if path_id is not None:
            out += struct.pack(">I", path_id)
        out += bytes([network.prefixlen]) + packed[:size]
    return out


def attribute(kind: int, value: bytes, flags: int = 0x40) -> bytes:
    if len(value) > 255:
        return struct.pack(">BBH", flags | 0x10, kind, len(value)) + value
    return struct.pack(">BBB", flags, kind, len(value)) + value


def segment(kind: int, numbers: Iterable[int], size: int = 4) -> bytes:
    numbers = list(numbers)
    form = "I" if size == 4 else "H"
    return struct.pack(f">BB{len(numbers)}{form}", kind, len(numbers), *numbers)


def path(*numbers: int, size: int = 4) -> bytes:
    return attribute(2, segment(2, numbers, size) if numbers else b"")


ORIGIN = attribute(1, b"\x00")
NEXT_HOP = attribute(3, ip_address("80.249.208.99").packed)


def attributes(*extra: bytes, size: int = 4, hops: Iterable[int] = (3356, 1299)) -> bytes:
    return ORIGIN + path(*hops, size=size) + NEXT_HOP + b"".join(extra)


def mp_reach(prefixes: bytes, hop: bytes, afi: int = 2, safi: int = 1) -> bytes:
    head = struct.pack(">HBB", afi, safi, len(hop))
    return attribute(14, head + hop + b"\x00" + prefixes, 0x80)


def mp_unreach(prefixes: bytes, afi: int = 2, safi: int = 1) -> bytes:
    return attribute(15, struct.pack(">HB", afi, safi) + prefixes, 0x80)


def message(body: bytes, kind: int = 2) -> bytes:
    return MARKER + struct.pack(">HB", 19 + len(body), kind) + body


def update(withdrawn: bytes = b"", block: bytes = b"", announced: bytes = b"") -> bytes:
    lengths = struct.pack(">H", len(withdrawn)), struct.pack(">H", len(block))
    return message(lengths[0] + withdrawn + lengths[1] + block + announced)


def session(size: int = 4, asn: int = 65001, peer: str = PEER, local: str = LOCAL) -> bytes:
    form = "I" if size == 4 else "H"
    ours = 12654
    afi = 1 if ip_address(peer).version == 4 else 2
    addresses = ip_address(peer).packed + ip_address(local).packed
    return struct.pack(f">{form}{form}HH", asn, ours, 0, afi) + addresses


def bgp4mp(inner: bytes, subtype: int = 4, size: int = 4, **who: Any) -> bytes:
    return record(BGP4MP, subtype, session(size, **who) + inner)


def state_change(before: int, after: int, subtype: int = 5, size: int = 4) -> bytes:
    return record(BGP4MP, subtype, session(size) + struct.pack(">HH", before, after))


def peer_index(*peers: tuple[str, int]) -> bytes:
    body = b"\x0a\x00\x00\x01" + struct.pack(">H", 4) + b"view" + struct.pack(">H", len(peers))
    for address, asn in peers:
        packed = ip_address(address).packed
        wide = asn > 0xFFFF
        kind = (len(packed) == 16) | (2 if wide else 0)
        body += bytes([kind]) + b"\x01\x02\x03\x04" + packed
        body += struct.pack(">I" if wide else ">H", asn)
    return record(TABLE_DUMP_V2, 1, body)


def rib(
    prefix: str,
    *entries: tuple[int, bytes],
    subtype: int = 2,
    path_ids: Iterable[int] | None = None,
) -> bytes:
    body = struct.pack(">I", 7) + nlri(prefix) + struct.pack(">H", len(entries))
    ids = list(path_ids) if path_ids is not None else []
    for number, (peer, block) in enumerate(entries):
        body += struct.pack(">HI", peer, AT)
        if ids:
            body += struct.pack(">I", ids[number])
        body += struct.pack(">H", len(block)) + block
    return record(TABLE_DUMP_V2, subtype, body)


def table_dump(prefix: str, block: bytes, peer: str = PEER, asn: int = 65001) -> bytes:
    address, _, length = prefix.partition("/")
    packed = ip_address(address).packed
    body = struct.pack(">HH", 0, 1) + packed + bytes([int(length), 1]) + struct.pack(">I", AT)
    body += ip_address(peer).packed + struct.pack(">H", asn) + struct.pack(">H", len(block)) + block
    return record(TABLE_DUMP, 1 if len(packed) == 4 else 2, body)


class Read:
    """What the reader made of a file: `rows` as (key text, record name, fields), and the values."""

    def __init__(self, source: Source, site: str = "fra1", **screening: Any) -> None:
        self.feed = RouteFeed(lambda _address, _asn: site, lambda _site: (0,), **screening)
        self.reader = MrtReader(self.feed)
        self.times = list(self.reader.read(source))
        taken = self.feed.take().get(0)
        pairs = list(zip(taken.keys, taken.values, strict=True)) if taken else []
        self.values = [value for _, value in pairs]
        self.rows = [(key.decode(), *decode(value)) for key, value in pairs]
        self.account = self.feed.account
        self.ending = self.reader.ending

    @property
    def routes(self) -> list[dict[str, Any]]:
        return [fields for _, name, fields in self.rows if name == "Route"]
