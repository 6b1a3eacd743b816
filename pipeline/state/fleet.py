"""The inventory: regions, sites, clusters, appliances, links and networks as columns by dense id.

Idea: a record may name what has not come yet (an appliance of a site that comes later). A name
gets its dense id when it is first seen in any role, and `*_alive` says whether its own record
stands, so nothing has to be resolved afterwards: the order inside a topic or cut does not matter.
Rule: of one id the newest record counts (inventory.py). An id is never given to something else;
what was removed and comes back has its old one. A site's region is where its record says now; its
appliances follow it. A link belongs to the site whose record came last among those that list it.
Rejected: ids for standing records only (every reference would wait in a list of its own).
"""

from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.reasons import Noted
from pipeline.state import inventory
from pipeline.state.codec import Packed, blobs, blobs_of, pack, unpack, within
from pipeline.state.drains import Drains
from pipeline.state.ids import Bool, Ids, Int32, Int64, UInt64, grown
from pipeline.state.inventory import Batch
from pipeline.state.networks import Networks
from pipeline.wire.rows import Account, TopicRows

UInt8 = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]

CLASSES = ("VOD", "LIVE", "GAME")  # bit i of `serves`, column i of whatever is per class

#: Column -> (the Ids whose rows it has, type, what stands there until a record says otherwise).
_COLUMNS: dict[str, tuple[str, type[np.generic], float]] = {
    "region_lat": ("regions", np.float64, 0.0),
    "region_lon": ("regions", np.float64, 0.0),
    "region_alive": ("regions", np.bool_, False),
    "site_region": ("sites", np.int32, -1),
    "site_lat": ("sites", np.float64, 0.0),
    "site_lon": ("sites", np.float64, 0.0),
    "site_kind": ("sites", np.uint8, 0),
    "site_alive": ("sites", np.bool_, False),
    "appliance_site": ("appliances", np.int32, -1),
    "appliance_cluster": ("appliances", np.int32, -1),
    "appliance_capacity_bps": ("appliances", np.int64, 0),
    "appliance_serves": ("appliances", np.uint8, 0),
    "appliance_alive": ("appliances", np.bool_, False),
    "link_site": ("links", np.int32, -1),
    "link_capacity_bps": ("links", np.int64, 0),
    "link_alive": ("links", np.bool_, False),
}


_IDS = ("regions", "sites", "clusters", "appliances", "links")


class Fleet:
    """Every column has exactly as many rows as its Ids; a row that is not alive is only a name.

    `version` changes with anything, `placement_version` with regions, sites and networks.
    """

    region_lat: Float64
    region_lon: Float64
    region_alive: Bool
    site_region: Int32  # of a site that is only a name: -1
    site_lat: Float64
    site_lon: Float64
    site_kind: UInt8  # 0 EMBEDDED, 1 IX
    site_alive: Bool
    appliance_site: Int32
    appliance_cluster: Int32  # -1: none
    appliance_capacity_bps: Int64
    appliance_serves: UInt8  # bit per class: VOD 1, LIVE 2, GAME 4
    appliance_alive: Bool
    link_site: Int32
    link_capacity_bps: Int64
    link_alive: Bool

    def __init__(self) -> None:
        self.partition = 0
        self.regions, self.sites, self.clusters = Ids(), Ids(), Ids()
        self.appliances, self.links = Ids(), Ids()
        self.appliance_addresses: list[list[bytes]] = []
        self.version = self.placement_version = 0
        self.drains = Drains()
        #: site id -> all regions that it serves, its home first: of sites that serve several.
        self.site_regions: dict[int, tuple[str, ...]] = {}
        self._networks = Networks()
        #: site id -> (offset of its record, its links): what the link columns are made from.
        self._site_links: dict[int, tuple[int, list[dict[str, Any]]]] = {}
        for column, (_, dtype, _) in _COLUMNS.items():
            setattr(self, column, np.empty(0, dtype=dtype))

    @property
    def network_hi(self) -> UInt64:
        return self._networks.table.get_column("hi").to_numpy()

    @property
    def network_lo(self) -> UInt64:
        return self._networks.table.get_column("lo").to_numpy()

    @property
    def network_length(self) -> UInt8:
        return self._networks.table.get_column("length").to_numpy()

    @property
    def network_lat(self) -> Float64:
        return self._networks.table.get_column("lat").to_numpy()

    @property
    def network_lon(self) -> Float64:
        return self._networks.table.get_column("lon").to_numpy()

    @property
    def network_region(self) -> Int32:
        return self._networks.table.get_column("region").to_numpy()

    def to_bytes(self) -> Packed:
        """All of it for a snapshot: names in the order of their ids, columns, networks, and what
        links each site listed. Only the look-up by name is made again."""
        fields: dict[str, Any] = {ids: getattr(self, ids).names for ids in _IDS}
        fields |= {column: getattr(self, column) for column in _COLUMNS}
        addresses = [one for listed in self.appliance_addresses for one in listed]
        return pack(
            "fleet",
            {
                "partition": self.partition,
                "versions": [self.version, self.placement_version],
                **fields,
                "address_count": np.array(list(map(len, self.appliance_addresses)), np.int64),
                **within("address", blobs(addresses)),
                "site_links": [
                    [site, *listed] for site, listed in sorted(self._site_links.items())
                ],
                **within("networks", self._networks.fields()),
                "drains": self.drains.fields(),
                "site_regions": [
                    [site, *names] for site, names in sorted(self.site_regions.items())
                ],
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Fleet":
        """The inverse of `to_bytes`."""
        fleet, fields = cls(), unpack("fleet", data)
        fleet.partition = fields["partition"]
        fleet.version, fleet.placement_version = fields["versions"]
        for ids in _IDS:
            setattr(fleet, ids, Ids.of(fields[ids]))
        for column in _COLUMNS:
            setattr(fleet, column, fields[column])
        addresses = iter(blobs_of(fields.part("address")))
        counts = fields["address_count"].tolist()
        fleet.appliance_addresses = [list(islice(addresses, count)) for count in counts]
        fleet._site_links = {site: (offset, links) for site, offset, links in fields["site_links"]}
        fleet._networks = Networks.of(fields.part("networks"))
        fleet.drains = Drains.of(fields["drains"])
        fleet.site_regions = {site: tuple(names) for site, *names in fields["site_regions"]}
        return fleet

    def fold(
        self, rows: TopicRows, partition: int, partitions: int, now_ms: int, account: Account
    ) -> None:
        """Take over the rows of fleet.inventory; what belongs to another partition is refused."""
        self.partition = partition
        news = inventory.read(rows, partition, partitions, account)
        placed = self._networks.apply(self._placed(news.networks), news.network_ends)
        changed = placed
        if drained := news.batches.pop("Drain", None):
            fresh = self.drains.apply(drained.news, drained.lost, now_ms)
            account.note(Noted.DUPLICATE, fresh.count(False))
        for kind, batch in news.batches.items():
            touched = _APPLY[kind](self, batch, account)
            changed |= touched
            placed |= touched and kind in ("Region", "Site")
        self.version += changed
        self.placement_version += placed

    def live_appliances(self) -> Bool:
        """Mask of the appliances that stand in the inventory, at a site that does."""
        return self.appliance_alive & self.site_alive[self.appliance_site]

    def _placed(self, networks: pl.DataFrame) -> pl.DataFrame:
        """Network rows with their region as its id."""
        if not networks.height:
            return networks
        names = networks.get_column("region")
        self.regions.add_all(names.unique(maintain_order=True))
        self._grow()
        return networks.with_columns(region=self.regions.index(names))

    def _grow(self) -> None:
        for column, (ids, _, fill) in _COLUMNS.items():
            setattr(self, column, grown(getattr(self, column), len(getattr(self, ids)), fill))
        self.appliance_addresses += [
            [] for _ in range(len(self.appliances) - len(self.appliance_addresses))
        ]

    def _apply_regions(self, batch: Batch, account: Account) -> bool:
        changed = _bury(self.region_alive, self.regions, batch.lost)
        if not batch.news.height:
            return changed
        ids = self.regions.add_all(batch.news.get_column("region"))
        self._grow()
        fresh = _put(self.region_alive, ids, True)
        for name, column in (("lat", self.region_lat), ("lon", self.region_lon)):
            fresh |= _put(column, ids, batch.news.get_column(name).to_numpy())
        return _tell(fresh, account) or changed

    def _apply_sites(self, batch: Batch, account: Account) -> bool:
        changed = _bury(self.site_alive, self.sites, batch.lost)
        for name in batch.lost:
            self._site_links.pop(self.sites.get(name), None)
            self.site_regions.pop(self.sites.get(name), None)
        if batch.news.height:
            ids = self.sites.add_all(batch.news.get_column("site"))
            regions = self.regions.add_all(batch.news.get_column("region"))
            self._grow()
            fresh = _put(self.site_alive, ids, True) | _put(self.site_region, ids, regions)
            for name, column in (("lat", self.site_lat), ("lon", self.site_lon)):
                fresh |= _put(column, ids, batch.news.get_column(name).to_numpy())
            kinds = batch.news.get_column("kind").to_physical().cast(pl.UInt8)
            fresh |= _put(self.site_kind, ids, kinds.to_numpy())
            listed = batch.news.select("_offset", "links").iter_rows()
            for row, (site, (offset, links)) in enumerate(zip(ids.tolist(), listed, strict=True)):
                fresh[row] |= self._site_links.get(site, (0, None))[1] != links
                self._site_links[site] = (offset, links)
            fresh |= self._share(ids.tolist(), batch.news)
            changed |= _tell(fresh, account)
        if changed:
            self._link()
        return changed

    def _share(self, ids: list[int], news: pl.DataFrame) -> Bool:
        """Remember the regions of sites that serve several; mask of those that are others now."""
        fresh = np.zeros(len(ids), np.bool_)
        listed = news.select("region", "regions").iter_rows()
        for row, (site, (region, regions)) in enumerate(zip(ids, listed, strict=True)):
            several = tuple(dict.fromkeys(regions)) if region in regions else ()
            before = self.site_regions.pop(site, ())
            if len(several) > 1:
                self.site_regions[site] = several
            fresh[row] = before != self.site_regions.get(site, ())
        return fresh

    def _link(self) -> None:
        """Make the link columns anew from what the sites list, oldest record first."""
        pairs = [
            (self.links.add(one["link"]), site, one["capacity_bps"])
            for site, (_, links) in sorted(self._site_links.items(), key=lambda item: item[1][0])
            for one in links
        ]
        self._grow()
        self.link_alive[:] = False
        for link, site, capacity_bps in pairs:
            self.link_alive[link] = True
            self.link_site[link], self.link_capacity_bps[link] = site, capacity_bps

    def _apply_clusters(self, batch: Batch, account: Account) -> bool:
        """A cluster is a name that appliances share; its record adds nothing that is asked for."""
        known = len(self.clusters)
        if batch.news.height:
            self.clusters.add_all(batch.news.get_column("cluster"))
        return len(self.clusters) > known

    def _apply_appliances(self, batch: Batch, account: Account) -> bool:
        changed = _bury(self.appliance_alive, self.appliances, batch.lost)
        news = batch.news
        if not news.height:
            return changed
        ids = self.appliances.add_all(news.get_column("appliance"))
        sites = self.sites.add_all(news.get_column("site"))
        named = news.get_column("cluster").unique(maintain_order=True)
        self.clusters.add_all(name for name in named if name)
        serves = np.zeros(len(ids), dtype=np.uint8)
        for bit, name in enumerate(CLASSES):
            holds = news.get_column("serves").list.contains(name).to_numpy()
            serves |= holds.astype(np.uint8) << np.uint8(bit)
        self._grow()
        fresh = _put(self.appliance_alive, ids, True) | _put(self.appliance_site, ids, sites)
        clusters = self.clusters.index(news.get_column("cluster"))
        fresh |= _put(self.appliance_cluster, ids, clusters)
        capacity = news.get_column("capacity_bps").to_numpy()
        fresh |= _put(self.appliance_capacity_bps, ids, capacity)
        fresh |= _put(self.appliance_serves, ids, serves)
        addresses = news.get_column("addresses").to_list()
        for row, (at, listed) in enumerate(zip(ids.tolist(), addresses, strict=True)):
            fresh[row] |= self.appliance_addresses[at] != listed
            self.appliance_addresses[at] = listed
        return _tell(fresh, account) or changed


_APPLY = {
    "Region": Fleet._apply_regions,
    "Site": Fleet._apply_sites,
    "Cluster": Fleet._apply_clusters,
    "Appliance": Fleet._apply_appliances,
}


def _put(column: npt.NDArray[Any], ids: Int32, values: Any) -> Bool:
    """column[ids] = values; mask of the ids whose value that changes. `ids` are distinct."""
    fresh: Bool = column[ids] != values
    column[ids] = values
    return fresh


def _bury(alive: Bool, ids: Ids, lost: list[str]) -> bool:
    """Mark the named as no longer there; whether any of them was."""
    rows = np.array([found for name in lost if (found := ids.get(name)) >= 0], dtype=np.int64)
    changed = bool(alive[rows].any())
    alive[rows] = False
    return changed


def _tell(fresh: Bool, account: Account) -> bool:
    """Note the records that said nothing new; whether any did."""
    account.note(Noted.DUPLICATE, int(fresh.size - fresh.sum()))
    return bool(fresh.any())
