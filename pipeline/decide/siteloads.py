"""How the projected load of each site stands, for everybody who asks why a share is what it is:
the records of steering.sites.

Idea: shares follow from costs and prices. A client is served where cost + price is least, so who
sees the prices of the sites of a ranking sees why a nearer one was passed over, and by how much.
Rule: told after each plan, of the sites for which that says something new: another state or price,
overflow that begins or ends, or a load (of a class), overflow or target that has moved by
`min_shift` ten-thousandths of the target since it was told last. So a load that wavers writes
nothing, and under constant input nothing is written at all (L10).
A price is the dual of a site's capacity at the optimum (prices.py, docs/adr/0023). Where a plan
spilled over instead there is none, and 0 is told.
Rejected: prices in the records of groups (a price that moves would write thousands); in lb.weights
(how a site spreads its load over its machines is asked at each session, and changes when they do).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.decide.assignment import CLASSES, I64, NO_ROOM, TOTAL, Bools
from pipeline.decide.serving import U8
from pipeline.decide.shares import SiteLoad
from pipeline.decide.sites import Load
from pipeline.decide.units import load_bps
from pipeline.state.codec import Packed, pack, unpack
from pipeline.state.ids import grown
from pipeline.wire.encode import encode
from pipeline.wire.tables import NOWHERE

_COLUMNS = ("told", "state", "target_bps", "overflow_bps", "load_bps", "price")


def published_price(price: I64) -> I64:
    """Prices of SiteLoad as they stand in a record."""
    return np.where(price == NO_ROOM, NOWHERE, price)


@dataclass(frozen=True, slots=True)
class Standing:
    """Of all sites, by id: known bool[S]: planned for and alive; state uint8[S] (sites.Load);
    target_bps, overflow_bps int64[S]; load_bps, price int64[S, 3], the price as in SiteLoad."""

    known: Bools
    state: U8
    target_bps: I64
    overflow_bps: I64
    load_bps: I64
    price: I64

    @classmethod
    def of(cls, state: U8, target_bps: I64) -> "Standing":
        """Sites of which no plan is known yet."""
        sites = len(target_bps)
        load, price = np.zeros((2, sites, CLASSES), np.int64)
        return cls(
            np.zeros(sites, np.bool_), state, target_bps, np.zeros(sites, np.int64), load, price
        )

    def put(self, sites: I64, load: SiteLoad) -> None:
        """Take over what a region planned of its sites."""
        load = load.longer(len(self.known))
        self.known[sites] = True
        self.load_bps[sites] = load_bps(load.load[sites])
        self.overflow_bps[sites] = load_bps(load.overflow[sites])
        self.price[sites] = load.price[sites]


class SiteLoads:
    """What was told last: columns by site id as in Standing, grown with the fleet; told bool[S]."""

    def __init__(self) -> None:
        self.told: Bools = np.empty(0, np.bool_)
        self.state: U8 = np.empty(0, np.uint8)
        self.target_bps: I64 = np.empty(0, np.int64)
        self.overflow_bps: I64 = np.empty(0, np.int64)
        self.load_bps: I64 = np.empty((0, CLASSES), np.int64)
        self.price: I64 = np.empty((0, CLASSES), np.int64)

    def to_bytes(self) -> Packed:
        """All of it for a snapshot; nothing is left to be made again."""
        return pack("loads", {name: getattr(self, name) for name in _COLUMNS})

    @classmethod
    def from_bytes(cls, data: bytes) -> "SiteLoads":
        """The inverse of `to_bytes`."""
        loads, fields = cls(), unpack("loads", data)
        for name in _COLUMNS:
            setattr(loads, name, fields[name])
        return loads

    def take(self, now: Standing, min_shift: int) -> tuple[I64, I64]:
        """Remember how things stand: the ids of the sites to be told of, and of those that were
        told of and are known no more."""
        for name in _COLUMNS:
            setattr(self, name, grown(getattr(self, name), len(now.known), 0))
        least = np.maximum(np.maximum(self.target_bps, now.target_bps) // TOTAL * min_shift, 1)
        moved = np.abs(now.load_bps - self.load_bps).max(axis=1) >= least
        moved |= np.abs(now.target_bps - self.target_bps) >= least
        moved |= np.abs(now.overflow_bps - self.overflow_bps) >= least
        moved |= (now.overflow_bps > 0) != (self.overflow_bps > 0)
        moved |= (now.state != self.state) | (now.price != self.price).any(axis=1) | ~self.told
        news = np.flatnonzero(now.known & moved)
        gone = np.flatnonzero(self.told & ~now.known)
        for name in _COLUMNS[1:]:
            getattr(self, name)[news] = getattr(now, name)[news]
        self.told[news], self.told[gone] = True, False
        return news, gone

    def records(
        self, sites: I64, names: Sequence[str], regions: Sequence[str]
    ) -> Iterator[tuple[str, bytes]]:
        """(site, its record) of these sites, as told last; `names`, `regions` of all sites."""
        for site in sites.tolist():
            fields = {
                "region": regions[site],
                "site": names[site],
                "state": Load(self.state[site]).name,
                "target_bps": int(self.target_bps[site]),
                "load_bps": self.load_bps[site].tolist(),
                "overflow_bps": int(self.overflow_bps[site]),
                "price": published_price(self.price[site]).tolist(),
            }
            yield names[site], encode("SiteLoad", fields)
