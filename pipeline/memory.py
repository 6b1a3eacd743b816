"""All that one partition remembers, and its snapshot: sections of bytes, from which another process
goes on with the same bytes as if nothing had happened (law L2).

A section stores what cannot be made again, or not so that the same follows: dense ids, dead rows
and free places count where they decide what comes next. Look-ups by key, parents and sums are made
again. Each says in its `to_bytes` which is which; the format is in state/codec.py."""

from collections.abc import Callable, Mapping
from typing import Any, Self

from pipeline.decide.duty import Duties
from pipeline.decide.eligibility import Eligibility
from pipeline.decide.siteloads import SiteLoads
from pipeline.decide.sites import SiteMemory
from pipeline.decide.weights import Weigher
from pipeline.publish import Ledger
from pipeline.regions import Region
from pipeline.snapshot.seal import opened, sealed
from pipeline.state.codec import Packed, within
from pipeline.state.demand import Demand
from pipeline.state.fleet import Fleet
from pipeline.state.health import Health
from pipeline.state.links import Links
from pipeline.state.paths import Paths
from pipeline.state.plays import Plays
from pipeline.state.routebytes import routes_from_bytes, routes_to_bytes
from pipeline.state.routes import Routes
from pipeline.state.sharing import Sharing

#: Section -> the attribute that it is, and how that turns into bytes and back.
_SECTIONS: dict[str, tuple[str, Callable[[Any], Packed], Callable[[bytes], Any]]] = {
    "fleet": ("fleet", Fleet.to_bytes, Fleet.from_bytes),
    "routes": ("routes", routes_to_bytes, routes_from_bytes),
    "health": ("health", Health.to_bytes, Health.from_bytes),
    "links": ("links", Links.to_bytes, Links.from_bytes),
    "paths": ("paths", Paths.to_bytes, Paths.from_bytes),
    "demand": ("demand", Demand.to_bytes, Demand.from_bytes),
    "plays": ("plays", Plays.to_bytes, Plays.from_bytes),
    "sharing": ("sharing", Sharing.to_bytes, Sharing.from_bytes),
    "ledger": ("ledger", Ledger.to_bytes, Ledger.from_bytes),
    "sites": ("sites", SiteMemory.to_bytes, SiteMemory.from_bytes),
    "loads": ("loads", SiteLoads.to_bytes, SiteLoads.from_bytes),
    "duties": ("duties", Duties.to_bytes, Duties.from_bytes),
    "weigher": ("_weigher", Weigher.to_bytes, Weigher.from_bytes),
}


class Memory:
    """The sections of one partition, its regions by id, and the Ledger of what it has published."""

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition, self.partitions = partition, partitions
        self.fleet, self.routes, self.health = Fleet(), Routes(), Health()
        self.links, self.paths = Links(), Paths()
        self.demand, self.plays = Demand(), Plays()
        self.sharing, self.ledger = Sharing(), Ledger()
        self.regions: dict[int, Region] = {}
        self.sites, self.loads, self.duties = SiteMemory(), SiteLoads(), Duties()
        self.eligibility = Eligibility.none()
        self.now_ms = 0
        self._weigher = Weigher()
        self._weighed_sites: set[int] = set()
        self._cause = False
        self._placed = (-1, "")

    def to_bytes(self) -> dict[str, bytes]:
        """Section name -> bytes. To be called between two steps."""
        return {name: bytes(section) for name, section in self.to_sections().items()}

    def to_sections(self) -> dict[str, Packed]:
        """Section name -> its parts, good until the next step: those of _SECTIONS, three of each
        region, and "cell", which binds them together."""
        sections = {
            name: to_bytes(getattr(self, attribute))
            for name, (attribute, to_bytes, _) in _SECTIONS.items()
        }
        for region in self.regions.values():
            sections |= region.to_bytes()
        fields = {
            "now_ms": self.now_ms,
            "cause": self._cause,
            "placed": self._placed,
            "regions": list(self.regions),
            "weighed_sites": sorted(self._weighed_sites),
            **within("eligibility", self.eligibility.fields()),
        }
        return sealed(self.partition, self.partitions, sections, fields)

    @classmethod
    def from_bytes(cls, partition: int, partitions: int, sections: Mapping[str, bytes]) -> Self:
        """The inverse of `to_bytes`. SnapshotError for sections that are damaged, not of one
        snapshot, or of another partition."""
        fields = opened(partition, partitions, sections)
        cell = cls(partition, partitions)
        for name, (attribute, _, from_bytes) in _SECTIONS.items():
            setattr(cell, attribute, from_bytes(sections[name]))
        for index in fields["regions"]:
            name = cell.fleet.regions.names[index]
            cell.regions[index] = Region.from_bytes(index, name, cell.ledger, sections)
        cell.now_ms, cell._cause = fields["now_ms"], fields["cause"]
        version, config_hash = fields["placed"]
        cell._placed = (version, config_hash)
        cell._weighed_sites = set(fields["weighed_sites"])
        cell.eligibility = Eligibility(**fields.part("eligibility"))
        return cell
