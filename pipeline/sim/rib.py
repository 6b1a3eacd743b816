"""What every site hears over BGP: sessions, announcements, and how they change.

Idea: routes are made by the block, one block for each (session, ISP) that announces over it. What
is the same for a block (how the path begins, prepending, MED) is drawn once; what belongs to a
prefix (its origin, whether it is announced there at all) is drawn once per prefix and block.
Rule: inside its own ISP a site hears everything at path length 1 or 2; at an exchange the route
server and private sessions carry the allocations and most deaggregates, mostly one AS further away;
transit carries the allocations and half of the rest, one or two AS further. MEDs are missing, equal
or different, so that ties of every kind occur and every tie-break has work to do.
Source: lengths of paths and habits (prepending, AS sets, MED left out) as seen in public tables.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.sim import encode
from pipeline.sim.networks import EMBEDDED, HUBS, IX, Ground
from pipeline.sim.places import distance_km
from pipeline.wire import primitives
from pipeline.wire.address import format_address, format_prefix

I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

TRANSIT_ASNS = (64_496, 64_497, 64_498)  # documentation numbers (RFC 5398)
ROUTE_SERVER_ASN = 64_505
BACKBONE_ASN = 4_220_000_000
CUSTOMER_ASN = 4_210_000_000
#: Origins a prefix may have: its ISP itself, one of its customers, an aggregate with an AS set.
ORIGINS = 6
_ORIGIN_SHARES = (0.80, 0.06, 0.05, 0.045, 0.04, 0.005)
MEDS: tuple[int | None, ...] = (None, 0, 10, 20, 50, 100)
_MED_RANKS = np.array([0, 0, 1, 2, 3, 4])
_MED_SHARES = (0.45, 0.10, 0.15, 0.10, 0.10, 0.10)
_COMMUNITIES = ((), (0xFDE8_0064,), (0xFDE8_0064, 0xFDE8_00C8), (0xFFFF_FF03,))
INSIDE, SERVER, PRIVATE, TRANSIT = range(4)
_LOCAL_PREF = (None, 100, 200, 90)
#: Share of an ISP's deaggregates that is announced over each kind of session.
_CARRIED = (0.97, 0.7, 0.75, 0.5)


@dataclass(frozen=True, slots=True)
class Sessions:
    """One BGP session each: site, peer's address as text and bytes, its AS, kind."""

    site: I32
    peer: list[str]
    asn: list[int]
    kind: U8
    address: U8


class Rib:
    """All routes of the world, as columns; `alive` says which are announced now."""

    def __init__(self, rng: np.random.Generator, ground: Ground, heard_at: int = 0) -> None:
        """`heard_at`: SimSize."""
        self._ground = ground
        self.sessions, block_session, block_isp = _sessions(rng, ground)
        self._block_session, self._block_isp = block_session, block_isp
        blocks = block_session.size
        kind = self.sessions.kind[block_session]
        self._prepend = rng.random(blocks) < 0.12
        block_med = rng.choice(len(MEDS), size=blocks, p=_MED_SHARES).astype(np.uint8)
        block_med[kind == INSIDE] = 0
        self._lead = np.where(kind == TRANSIT, rng.integers(0, 5, size=blocks), -1)
        self.block, self.prefix = self._announcements(rng, kind)
        if heard_at:
            kept = self._at_sites(rng, heard_at)
            self.block, self.prefix = self.block[kept], self.prefix[kept]
        self.med = block_med[self.block]
        other = rng.random(self.med.size) < 0.04
        self.med[other] = rng.integers(len(MEDS), size=int(other.sum()), dtype=np.uint8)
        self._origin = rng.choice(ORIGINS, size=len(ground.prefixes), p=_ORIGIN_SHARES).astype(
            np.uint8
        )
        self._origin[:2] = 0
        self.prepended = np.zeros(self.med.size, dtype=np.uint8)
        self.alive = np.ones(self.med.size, dtype=bool)
        self._paths, self._path_lengths = self._path_tables()
        self._tables = _Tables(ground, self.sessions)

    def __len__(self) -> int:
        return int(self.block.shape[0])

    def session_of(self, routes: npt.NDArray[np.integer]) -> I32:
        """The session of each of these routes."""
        sessions: I32 = self._block_session[self.block[routes]]
        return sessions

    def change_med(self, route: int, draw: int) -> None:
        """Another MED for this route, as `draw` has it."""
        self.med[route] = (int(self.med[route]) + 1 + draw % (len(MEDS) - 1)) % len(MEDS)

    def region_of(self, sessions: npt.NDArray[np.integer]) -> I32:
        """The region of each session."""
        regions: I32 = self._ground.sites.region[self.sessions.site[sessions]]
        return regions

    def nearest_sites(self, width: int) -> I32:
        """Per prefix the `width` sites that hear it best, best first (-1: no more): by AS path
        length, MED (missing is best), distance, as the plane ranks them. Deaggregates that nobody
        hears have their allocation's."""
        ground, site = self._ground, self.sessions.site[self.session_of(np.arange(len(self)))]
        prefix = self.prefix.astype(np.uint64)
        where = ground.prefixes.allocation[self.prefix]
        far = distance_km(
            ground.sites.lat[site], ground.sites.lon[site],
            ground.allocation_lat[where], ground.allocation_lon[where],
        )  # fmt: skip
        path = (self.block * ORIGINS + self._origin[self.prefix]) * 2 + self.prepended
        key = prefix
        for part, bits in (
            (self._path_lengths[path], 5), (_MED_RANKS[self.med], 3), (far / 2, 14), (site, 14),
        ):  # fmt: skip
            key = (key << np.uint64(bits)) | part.astype(np.uint64)
        order = np.argsort(key, kind="stable")
        pair = (prefix << np.uint64(14)) | site.astype(np.uint64)
        first = np.sort(np.unique(pair[order], return_index=True)[1])
        of, best = self.prefix[order][first], site[order][first]
        starts = np.searchsorted(of, np.arange(len(ground.prefixes)))
        rank = np.arange(of.size) - starts[of]
        nearest = np.full((len(ground.prefixes), width), -1, dtype=np.int32)
        kept = rank < width
        nearest[of[kept], rank[kept]] = best[kept]
        unheard = nearest[:, 0] < 0
        own = np.flatnonzero(ground.prefixes.is_allocation)
        own = own[np.argsort(ground.prefixes.allocation[own], kind="stable")]
        nearest[unheard] = nearest[own[ground.prefixes.allocation[unheard]]]
        return nearest

    def columns(self, routes: npt.NDArray[np.integer], at_ms: int) -> dict[str, encode.Column]:
        """These routes as Route records: announced where alive, else withdrawn."""
        session = self._block_session[self.block[routes]]
        prefix, alive = self.prefix[routes], self.alive[routes]
        path = (self.block[routes] * ORIGINS + self._origin[prefix]) * 2 + self.prepended[routes]
        path = np.where(alive, path, len(self._path_lengths) - 1)
        tables, kind = self._tables, self.sessions.kind[session]
        med = np.where(alive, self.med[routes], 0)
        return {
            "site": tables.sites.take(self.sessions.site[session]),
            "peer": tables.peers.take(session),
            "peer_asn": tables.asns[session],
            "prefix": tables.prefixes[prefix],
            "path_id": np.zeros(prefix.size, dtype=np.int64),
            "action": np.where(alive, 0, 1),
            "as_path": self._paths.take(path),
            "as_path_len": self._path_lengths[path],
            "med": tables.meds.take(med),
            "local_pref": tables.local_prefs.take(np.where(alive, kind, INSIDE)),
            "communities": tables.communities.take(
                np.where(alive, (prefix + kind) % len(_COMMUNITIES), 0)
            ),
            "next_hop": self.sessions.address[session],
            "at_ms": np.full(prefix.size, at_ms, dtype=np.int64),
        }

    def keys(self, routes: npt.NDArray[np.integer]) -> list[bytes]:
        """The message keys of these routes: site|peer|prefix|path_id."""
        session = self._block_session[self.block[routes]]
        prefix = self.prefix[routes]
        distinct, back = np.unique(prefix, return_inverse=True)
        raw = self._tables.prefixes[distinct].tobytes()
        names = [format_prefix(raw[at : at + 17]).encode() for at in range(0, len(raw), 17)]
        starts = self._tables.key_starts
        return [
            b"%s%s|0" % (starts[number], names[index])
            for number, index in zip(session.tolist(), back.tolist(), strict=True)
        ]

    def _announcements(self, rng: np.random.Generator, kind: U8) -> tuple[I32, I32]:
        """(block, prefix) of every route, in block order."""
        isp_of = self._ground.prefix_isp
        by_isp = np.argsort(isp_of, kind="stable").astype(np.int32)
        first = np.searchsorted(isp_of[by_isp], np.arange(self._ground.isps.region.size + 1))
        count = (first[1:] - first[:-1])[self._block_isp]
        block = np.repeat(np.arange(count.size, dtype=np.int32), count)
        within = np.arange(block.size) - np.repeat(np.cumsum(count) - count, count)
        prefix = by_isp[first[self._block_isp][block] + within]
        carried = np.array(_CARRIED)[kind[block]]
        keep = self._ground.prefixes.is_allocation[prefix] | (rng.random(block.size) < carried)
        return block[keep], prefix[keep]

    def _at_sites(self, rng: np.random.Generator, sites: int) -> npt.NDArray[np.bool_]:
        """The routes of so many sites for each prefix, at random."""
        site = self.sessions.site[self.session_of(np.arange(len(self)))]
        pairs, pair = np.unique(self.prefix.astype(np.int64) << 32 | site, return_inverse=True)
        of = pairs >> 32
        order = np.lexsort((rng.random(len(pairs)), of))
        rank = np.empty(len(pairs), np.int64)
        rank[order] = np.arange(len(pairs)) - np.searchsorted(of, of)
        kept: npt.NDArray[np.bool_] = (rank < sites)[pair]
        return kept

    def _path_tables(self) -> tuple[encode.Table, npt.NDArray[np.int64]]:
        """Every AS path there can be: block x origin x (once more prepended or not); last, none."""
        asns = self._ground.isps.asn.tolist()
        paths, lengths = [], []
        for block, isp in enumerate(self._block_isp.tolist()):
            lead = int(self._lead[block])
            via = self.sessions.asn[self._block_session[block]]
            start = [] if via == asns[isp] else [via, *TRANSIT_ASNS[HUBS:]] if lead > 2 else [via]
            own = [asns[isp]] * (2 if self._prepend[block] else 1)
            for origin in range(ORIGINS):
                customer = CUSTOMER_ASN + isp * 8 + origin
                tail = [""] if origin == 0 else [f" {customer}"]
                if origin == ORIGINS - 1:
                    tail = [f" {{{customer},{customer + 1}}}"]
                for extra in (0, 1):
                    hops = [*start, *own, *[asns[isp]] * extra]
                    paths.append(" ".join(map(str, hops)) + tail[0])
                    lengths.append(len(hops) + (origin > 0))
        return encode.texts([*paths, ""]), np.array([*lengths, 0], dtype=np.int64)


class _Tables:
    """What the records of routes are gathered from, encoded once."""

    def __init__(self, ground: Ground, sessions: Sessions) -> None:
        names = ground.sites.names
        self.sites = encode.texts(names)
        self.peers = encode.texts(sessions.peer)
        self.asns = np.array(sessions.asn, dtype=np.int64)
        self.prefixes = ground.prefixes.matrix()
        self.meds = encode.table([primitives.optional_long(med) for med in MEDS])
        self.local_prefs = encode.table([primitives.optional_long(each) for each in _LOCAL_PREF])
        self.communities = encode.table(
            [primitives.array([primitives.long(each) for each in some]) for some in _COMMUNITIES]
        )
        self.key_starts = [
            f"{names[site]}|{peer}|".encode()
            for site, peer in zip(sessions.site.tolist(), sessions.peer, strict=True)
        ]


def _sessions(rng: np.random.Generator, ground: Ground) -> tuple[Sessions, I32, I32]:
    """All sessions, and the blocks: (session, ISP) that announces over it."""
    site: list[int] = []
    asn: list[int] = []
    kind: list[int] = []
    block_session: list[int] = []
    block_isp: list[int] = []
    regions = ground.isps.region
    visitors: list[list[int]] = [[] for _ in ground.sites.names]
    for isp, row in enumerate(ground.isps.exchanges.tolist()):
        for met in row:
            if met >= 0:
                visitors[met].append(isp)
    large = ground.isps.weight > np.quantile(ground.isps.weight, 0.7)

    def session(at: int, number: int, sort: int, isps: list[int]) -> None:
        block_session.extend([len(site)] * len(isps))
        block_isp.extend(isps)
        site.append(at)
        asn.append(number)
        kind.append(sort)

    for at, (sort, isp) in enumerate(
        zip(ground.sites.kind.tolist(), ground.sites.isp.tolist(), strict=True)
    ):
        if sort == EMBEDDED:
            for _ in range(2):
                session(at, int(ground.isps.asn[isp]), INSIDE, [isp])
        if sort == IX and visitors[at]:
            session(at, ROUTE_SERVER_ASN, SERVER, visitors[at])
        for visitor in visitors[at]:
            if large[visitor] and rng.random() < 0.6:
                direct = rng.random() < 0.3  # else by way of its backbone's own AS
                number = int(ground.isps.asn[visitor]) if direct else BACKBONE_ASN + visitor
                session(at, number, PRIVATE, [visitor])
        if ground.sites.hub[at]:
            everyone = np.flatnonzero(regions == ground.sites.region[at]).tolist()
            session(at, TRANSIT_ASNS[at % HUBS], TRANSIT, everyone)
    address = _peer_addresses(np.arange(len(site)))
    peers = [format_address(each.tobytes()) for each in address]
    return (
        Sessions(
            np.array(site, dtype=np.int32), peers, asn, np.array(kind, dtype=np.uint8), address
        ),
        np.array(block_session, dtype=np.int32),
        np.array(block_isp, dtype=np.int32),
    )


def _peer_addresses(number: npt.NDArray[np.int64]) -> U8:
    """Peers live in 198.18.0.0/15 (RFC 2544: for tests, nobody's)."""
    out = np.zeros((number.size, 16), dtype=np.uint8)
    out[:, 10:12] = 0xFF
    out[:, 12], out[:, 13] = 198, 18
    out[:, 14], out[:, 15] = number // 250, number % 250 + 1
    return out
