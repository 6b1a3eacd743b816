"""MRT files (RFC 6396, RFC 8050): RIB dumps and updates of RIPE RIS, RouteViews, BIRD, FRR ...

Idea: frame records out of decompressed pieces, tell each by (type, subtype), and hand the BGP
inside to `RouteFeed`. The file is a stream: memory does not grow with it.
Rule: a record that cannot be read is counted as damaged and the next one is read; only where the
framing itself is lost (an impossible length, the end inside a record) the reading of the file ends.
What holds no unicast routes is counted by name. Elements are counted as bgpdump counts them.
Kept on purpose, since archives have them: the 1999 record type BGP, TABLE_DUMP with 4-byte AS
numbers (subtypes 3 and 4), messages that the collector cut off (what is whole in them stands),
state changes without addresses.
Rejected: libraries (mrtparse: 5,000 to 8,000 records/s, and it stops on odd records).
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.feeds.bgp import AFI_BITS, Context
from pipeline.feeds.compressed import Source
from pipeline.feeds.prefixes import Prefix
from pipeline.feeds.routes import RouteFeed, Speaker

#: A longer record is taken for lost framing. RIB records of 2,000 peers with 4 KiB each are 8 MiB.
RECORD_BYTES_MAX = 1 << 24
_HEADER = struct.Struct(">IHHI")

_BGP, _TABLE_DUMP, _TABLE_DUMP_V2, _BGP4MP, _BGP4MP_ET = 5, 12, 13, 16, 17
TYPES = {
    0: "NULL", 1: "START", 2: "DIE", 3: "I_AM_DEAD", 4: "PEER_DOWN", 5: "BGP", 6: "RIP",
    7: "IDRP", 8: "RIPNG", 9: "BGP4PLUS", 10: "BGP4PLUS_01", 11: "OSPFv2", 12: "TABLE_DUMP",
    13: "TABLE_DUMP_V2", 16: "BGP4MP", 17: "BGP4MP_ET", 32: "ISIS", 33: "ISIS_ET", 48: "OSPFv3",
    49: "OSPFv3_ET",
}  # fmt: skip
#: What tells an MRT file from anything else: its first record is one of these.
_ROUTING = frozenset(
    {*range(5, 12), _TABLE_DUMP, _TABLE_DUMP_V2, _BGP4MP, _BGP4MP_ET, 32, 33, 48, 49}
)
_RIB_NAMES = {3: "RIB_IPV4_MULTICAST", 5: "RIB_IPV6_MULTICAST", 7: "GEO_PEER_TABLE",
              9: "RIB_IPV4_MULTICAST_ADDPATH", 11: "RIB_IPV6_MULTICAST_ADDPATH"}  # fmt: skip
#: RIB subtypes: (address bits, 0: the record says; with path identifiers).
_RIBS = {
    2: (32, False),
    4: (128, False),
    6: (0, False),
    8: (32, True),
    10: (128, True),
    12: (0, True),
}
#: BGP4MP messages: (bytes of an AS number, sent by the collector itself, with path identifiers).
_MESSAGES = {
    1: (2, False, False), 4: (4, False, False), 6: (2, True, False), 7: (4, True, False),
    8: (2, False, True), 9: (4, False, True), 10: (2, True, True), 11: (4, True, True),
}  # fmt: skip
_STATE_CHANGES = {0: 2, 5: 4}
_BGP4MP_NAMES = {2: "ENTRY", 3: "SNAPSHOT"}
_BGP_NAMES = {0: "NULL", 2: "PREF_UPDATE", 4: "SYNC", 5: "OPEN", 6: "NOTIFY", 7: "KEEPALIVE"}
_KINDS = {1: "OPEN", 3: "NOTIFICATION", 4: "KEEPALIVE", 5: "ROUTE_REFRESH"}
_MARKER = b"\xff" * 16
_ESTABLISHED, _UPDATE = 6, 2


class Damage(Exception):  # noqa: N818  (internal: one record is damaged)
    """This record cannot be read, or not wholly."""


@dataclass(slots=True)
class Ending:
    """How the reading of one file ended: `whole` when it was read to its end; else why not."""

    is_mrt: bool = False
    whole: bool = True
    why: str = ""


class MrtReader:
    """Reads one MRT file into a `RouteFeed`; its RIB records refer to its own peer index."""

    def __init__(self, feed: RouteFeed) -> None:
        self.feed = feed
        self.ending = Ending()
        self._peers: list[Speaker] | None = None
        self._readers: dict[int, Callable[[int, bytes, int], None]] = {
            _BGP: self._bgp,
            _TABLE_DUMP: self._table_dump,
            _TABLE_DUMP_V2: self._table_dump_v2,
            _BGP4MP: self._bgp4mp,
            _BGP4MP_ET: self._bgp4mp,
        }

    def read(self, source: Source) -> Iterator[int]:
        """Read the file; after each record its time, Unix milliseconds. OSError when the file
        cannot be read; how it ended is in `ending`."""
        account, readers = self.feed.account, self._readers
        for at_ms, kind, subtype, body in self._frames(source):
            account.records += 1
            self.ending.is_mrt |= kind in _ROUTING
            reader = readers.get(kind)
            if reader is None:
                account.skipped[TYPES.get(kind, f"type {kind}")] += 1
                continue
            try:
                if kind == _BGP4MP_ET:
                    if len(body) < 4:
                        raise Damage("no microseconds")
                    at_ms += int.from_bytes(body[:4], "big") // 1000
                    body = body[4:]
                reader(subtype, body, at_ms)
            except (Damage, struct.error, IndexError):
                account.damaged += 1
            yield at_ms
        if source.damage:
            self._end(source.damage)

    def _end(self, why: str) -> None:
        if self.ending.whole:
            self.feed.account.damaged += 1
        self.ending.whole, self.ending.why = False, self.ending.why or why

    def _frames(self, source: Source) -> Iterator[tuple[int, int, int, bytes]]:
        """(time, type, subtype, body) of each record."""
        buffer, at, offset = b"", 0, 0
        for chunk in source.chunks():
            offset += at
            buffer, at = buffer[at:] + chunk, 0
            end = len(buffer)
            while at + 12 <= end:
                seconds, kind, subtype, length = _HEADER.unpack_from(buffer, at)
                if length > RECORD_BYTES_MAX:
                    self._end(f"no record of MRT at byte {offset + at}")
                    return
                if at + 12 + length > end:
                    break
                body = buffer[at + 12 : at + 12 + length]
                at += 12 + length
                yield seconds * 1000, kind, subtype, body
        if at < len(buffer):
            self._end(source.damage or f"ends inside a record, at byte {offset + at}")

    # -- BGP4MP: messages and state changes -------------------------------------------------------

    def _bgp4mp(self, subtype: int, body: bytes, at_ms: int) -> None:
        message = _MESSAGES.get(subtype)
        size = message[0] if message else _STATE_CHANGES.get(subtype, 0)
        if not size:
            name = _BGP4MP_NAMES.get(subtype, f"subtype {subtype}")
            self.feed.account.skipped[f"BGP4MP {name}"] += 1
            return
        if message is None and len(body) == 2 * size + 4:
            self.feed.account.skipped["BGP4MP STATE_CHANGE without a peer"] += 1
            return
        width = AFI_BITS.get(int.from_bytes(body[2 * size + 2 : 2 * size + 4], "big"), 0) // 8
        if not width:
            raise Damage("address family of the session is none")
        start = 2 * size + 4
        rest = body[start + 2 * width :]
        # the speaker is who sent the message: for _LOCAL the collector's own side
        local = message is not None and message[1]
        asn = int.from_bytes(body[size : 2 * size] if local else body[:size], "big")
        where = start + width if local else start
        address = body[where : where + width]
        if len(address) < width:
            raise Damage("ends inside the session's addresses")
        speaker = self.feed.speaker(address, asn)
        if message is None:
            self._state_change(speaker, rest, at_ms)
        else:
            self._message(speaker, rest, Context(size, False), at_ms, add_path=message[2])

    def _state_change(self, speaker: Speaker, states: bytes, at_ms: int) -> None:
        before, after = struct.unpack_from(">HH", states)
        if (before == _ESTABLISHED) == (after == _ESTABLISHED):
            self.feed.account.skipped["STATE_CHANGE of a session that is not up"] += 1
            return
        cause = f"state {before} to {after}"
        self.feed.session(speaker, cause, at_ms, up=after == _ESTABLISHED)

    def _message(
        self, speaker: Speaker, message: bytes, context: Context, at_ms: int, *, add_path: bool
    ) -> None:
        if not message.startswith(_MARKER) or len(message) < 19:
            raise Damage("no BGP message")
        length, kind = int.from_bytes(message[16:18], "big"), message[18]
        if kind != _UPDATE:
            self.feed.account.skipped[_KINDS.get(kind, f"BGP message {kind}")] += 1
            return
        body = message[19:length]
        if len(body) < 4 or length < 23:
            raise Damage("UPDATE is cut off")
        whole = self.feed.update(speaker, body, context, at_ms, add_path=add_path)
        if not whole or len(message) < length:
            raise Damage("UPDATE is damaged")

    def _bgp(self, subtype: int, body: bytes, at_ms: int) -> None:
        """The record type of 1999: IPv4, AS numbers of two bytes, UPDATEs without their header."""
        asn, address = int.from_bytes(body[:2], "big"), body[2:6]
        if subtype == 1:
            if len(body) < 16:
                raise Damage("UPDATE is cut off")
            speaker = self.feed.speaker(address, asn)
            if not self.feed.update(speaker, body[12:], Context(2, False), at_ms, add_path=False):
                raise Damage("UPDATE is damaged")
        elif subtype == 3:
            if len(body) < 10:
                raise Damage("STATE_CHANGE is cut off")
            self._state_change(self.feed.speaker(address, asn), body[6:], at_ms)
        else:
            name = _BGP_NAMES.get(subtype, f"subtype {subtype}")
            self.feed.account.skipped[f"BGP {name}"] += 1

    # -- RIB dumps --------------------------------------------------------------------------------

    def _table_dump(self, subtype: int, body: bytes, at_ms: int) -> None:
        """One route a record; subtypes 3 and 4 are 1 and 2 with AS numbers of four bytes."""
        if not 1 <= subtype <= 4:
            self.feed.account.skipped[f"TABLE_DUMP subtype {subtype}"] += 1
            return
        width, as_size = (4, 16)[(subtype - 1) % 2], 2 if subtype < 3 else 4
        address, length = body[4 : 4 + width], body[4 + width]
        at = 4 + width + 6  # behind length, status and time of origin
        peer = body[at : at + width]
        at += width + as_size
        asn = int.from_bytes(body[at - as_size : at], "big")
        size = int.from_bytes(body[at : at + 2], "big")
        block = body[at + 2 : at + 2 + size]
        if len(body) < at + 2 + size:
            raise Damage("ends inside its attributes")
        prefix = self.feed.readers[width * 8].full(address, length)
        attributes = self.feed.attributes(block, Context(as_size, True))
        self.feed.rib_entry(self.feed.speaker(peer, asn), prefix, 0, attributes, at_ms)

    def _table_dump_v2(self, subtype: int, body: bytes, at_ms: int) -> None:
        if subtype == 1:
            self._peer_index(body)
            return
        rib = _RIBS.get(subtype)
        if rib is None:
            name = _RIB_NAMES.get(subtype, f"subtype {subtype}")
            self.feed.account.skipped[f"TABLE_DUMP_V2 {name}"] += 1
            return
        bits, add_path = rib
        at = 4
        if not bits:  # RIB_GENERIC names its family
            afi, safi = int.from_bytes(body[4:6], "big"), body[6]
            bits, at = AFI_BITS.get(afi, 0), 7
            if not bits or safi != 1:
                self.feed.account.skipped[f"RIB_GENERIC afi {afi} safi {safi}"] += 1
                return
        size = 1 + (body[at] + 7) // 8
        if at + size + 2 > len(body):
            raise Damage("ends inside its prefix")
        prefix = self.feed.readers[bits].single(body[at : at + size])
        self._entries(prefix, body, at + size, at_ms, add_path=add_path)

    def _entries(self, prefix: Prefix, body: bytes, at: int, at_ms: int, *, add_path: bool) -> None:
        feed, peers, end = self.feed, self._peers, len(body)
        context = Context(4, True)
        count = int.from_bytes(body[at : at + 2], "big")
        at += 2
        head = 12 if add_path else 8
        for _ in range(count):
            if at + head > end:
                raise Damage("ends between its entries")
            index = body[at] << 8 | body[at + 1]
            path_id = int.from_bytes(body[at + 6 : at + 10], "big") if add_path else 0
            at += head
            size = body[at - 2] << 8 | body[at - 1]
            block = body[at : at + size]
            at += size
            if at > end or peers is None or index >= len(peers):
                raise Damage("ends inside an entry, or its peer is not in the index")
            feed.rib_entry(peers[index], prefix, path_id, feed.attributes(block, context), at_ms)

    def _peer_index(self, body: bytes) -> None:
        at = 6 + int.from_bytes(body[4:6], "big")
        count = int.from_bytes(body[at : at + 2], "big")
        at += 2
        peers = []
        for _ in range(count):
            kind = body[at]
            width, as_size = 16 if kind & 1 else 4, 4 if kind & 2 else 2
            at += 5
            address, asn = body[at : at + width], body[at + width : at + width + as_size]
            at += width + as_size
            if at > len(body):
                raise Damage("ends inside a peer")
            peers.append(self.feed.speaker(address, int.from_bytes(asn, "big")))
        self._peers = peers
