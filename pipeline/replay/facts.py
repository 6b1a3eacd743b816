"""What a cell held of the sites that one address may be served by, as of a cut, and the records
that each figure rests on."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from pipeline.cell import Cell
from pipeline.config import SteeringConfig
from pipeline.decide.assignment import CLASSES, TOTAL
from pipeline.decide.eligibility import ELIGIBLE, REASON_OF_STATUS
from pipeline.decide.siteloads import published_price
from pipeline.decide.sites import CLASS_NAMES, Load
from pipeline.decide.units import load_bps
from pipeline.decide.weights import Spread
from pipeline.replay.liveroutes import Route
from pipeline.replay.provenance import Around, InSnapshot, Origin, Records, Source, covering
from pipeline.replay.sitefacts import (
    ApplianceFacts,
    BlockDemand,
    LinkFacts,
    PathFacts,
    RouteFacts,
    SiteFacts,
    SiteLoad,
)
from pipeline.replay.trail import Told, Trail
from pipeline.state.health import ApplianceState, Service
from pipeline.state.paths import rtt_ms_of_step
from pipeline.state.sessionroutes import damped_until_ms
from pipeline.wire.address import prefix_columns
from schemas.registry import (
    APPLIANCE_HEALTH,
    BGP_ROUTES,
    FLEET_INVENTORY,
    TRAFFIC_LINKS,
    TRAFFIC_PATHS,
)

_KINDS = ("EMBEDDED", "IX")
_LOADS = frozenset(load.name for load in Load)
_SPREADS = frozenset(str(spread) for spread in Spread)


def loads_of(cell: Cell, sites: Iterable[str], config: SteeringConfig) -> dict[str, SiteLoad]:
    """Capacity and projected load of sites by name, as of the last cut."""
    projected = cell.projected_bps().sum(axis=1)
    found = {}
    for name in sites:
        site = cell.fleet.sites.get(name)
        usable = int(cell.eligibility.site_bps[site])
        target = usable * round(config.assignment.target * TOTAL) // TOTAL
        found[name] = SiteLoad(usable, target, int(projected[site]))
    return found


class Facts:
    """Asks one cell, as it stands after a cut."""

    def __init__(self, cell: Cell, trail: Trail, records: Records, config: SteeringConfig) -> None:
        self._cell, self._trail, self._records, self._config = cell, trail, records, config
        self._live = cell.fleet.live_appliances()
        self._usable_bps = cell.health.usable_bps(cell.fleet, cell.now_ms, config)
        self._measured_bps, self._capacity_bps = cell.measured_bps()
        self._projected_bps = cell.projected_bps()
        self._told: dict[tuple[str, str], list[Told]] = {}
        for told in trail.verdicts:
            self._told.setdefault((told.row.kind, told.row.entity), []).append(told)

    def origin(self, topic: str, found: Source | int, exists: bool = True) -> Origin:
        """A record, by its offset or as it was found; where there should be one and is none, it
        is of the snapshot that the recording begins with."""
        source = found if isinstance(found, Source) else self._records.at(topic, found)
        if source is not None or not exists or self._trail.first_cut == 1:
            return source
        return InSnapshot(self._trail.first_cut - 1)

    def thing(self, kind: str, name: str) -> Origin:
        """The inventory's record of something that is in it."""
        offset = self._trail.inventory.offsets.get((kind, name), -1)
        return self.origin(FLEET_INVENTORY.name, offset)

    def block(self, region: int) -> BlockDemand:
        """What the client's own block draws of a region (fleet id), and will in a minute."""
        demand, block = self._cell.demand, Around(self._trail.address).block
        hi, lo = (int.from_bytes(half, "big") for half in (block[:8], block[8:16]))
        here = (demand.block_hi == hi) & (demand.block_lo == lo) & (demand.block_region == region)
        if not here.any():
            return BlockDemand.none()
        found = demand.expected_bps(self._cell.now_ms, np.flatnonzero(here))
        return BlockDemand(*(tuple(each.tolist()) for (each,) in found))

    def site(self, name: str, longest: int) -> SiteFacts:
        """Everything about a site; `longest`: length of the prefix that is asked about."""
        cell = self._cell
        fleet, eligibility = cell.fleet, cell.eligibility
        site = fleet.sites.get(name)
        load = loads_of(cell, [name], self._config)[name]
        status = eligibility.status[site].tolist()
        told = self._told.get(("site", name), [])
        region = cell.regions.get(int(fleet.site_region[site]))
        overflow, price = 0, [0] * CLASSES
        if region is not None:
            planned = region.shares.sites.longer(len(fleet.sites))
            overflow = int(planned.overflow[site])
            price = published_price(planned.price[site]).tolist()
        route = self._route(name, longest)
        return SiteFacts(
            site=name,
            kind=_KINDS[int(fleet.site_kind[site])],
            serves={
                klass: None if code == ELIGIBLE else str(REASON_OF_STATUS[code])
                for klass, code in zip(CLASS_NAMES, status, strict=True)
            },
            panic=bool(eligibility.panic[site].any()),
            admitted=int(eligibility.admitted[site]),
            drains=tuple((one, self.thing("drain", one)) for one in self._drains(site)),
            eligible_told=_last(one for one in told if _of_classes(one)),
            load=Load(cell.sites.load_state[site]).name,
            load_told=_last(one for one in told if one.row.to_state in _LOADS),
            spread_told=_last(one for one in told if one.row.to_state in _SPREADS),
            target=round(self._config.assignment.target * TOTAL),
            capacity_bps=int(self._capacity_bps[site]),
            usable_bps=load.usable_bps,
            target_bps=load.target_bps,
            projected_bps=tuple(self._projected_bps[site].tolist()),
            without_room_bps=load_bps(overflow),
            price=tuple(price),
            measured_bps=int(self._measured_bps[site]),
            inventory=self.thing("site", name),
            links=tuple(self._link(link) for link in self._links(site)),
            appliances=tuple(self._appliance(row) for row in self._members(site)),
            route=route,
            path=None if route is None else self._path(name, site, route.route.prefix),
        )

    def _drains(self, site: int) -> list[str]:
        fleet = self._cell.fleet
        home = fleet.site_regions.get(site, (fleet.regions.names[int(fleet.site_region[site])],))
        region = home[0]
        return fleet.drains.of_site(fleet.sites.names[site], region)

    def _members(self, site: int) -> list[int]:
        """Living appliances of a site in the order of their names."""
        rows = np.flatnonzero(self._live & (self._cell.fleet.appliance_site == site)).tolist()
        return sorted(rows, key=self._cell.fleet.appliances.names.__getitem__)

    def _links(self, site: int) -> list[int]:
        fleet = self._cell.fleet
        return [*np.flatnonzero(fleet.link_alive & (fleet.link_site == site)).tolist()]

    def _appliance(self, row: int) -> ApplianceFacts:
        health, name = self._cell.health, self._cell.fleet.appliances.names[row]
        topic, heard = APPLIANCE_HEALTH.name, bool(health.heard_ms[row])
        last = _last(self._told.get(("appliance", name), []))
        state = ApplianceState(health.state[row]).name
        change = None if last is None else self.origin(topic, last.report, heard)
        if last is None and health.since_ms[row]:
            change = self.origin(topic, -1, heard)
        return ApplianceFacts(
            appliance=name,
            state=state,
            reason=str(health.reason_of(row)),
            since_ms=int(health.since_ms[row]),
            service=Service(health.service[row]).name,
            utilisation=round(float(health.utilisation[row]), 4),
            load=round(float(health.load[row]), 4),
            usable_bps=int(self._usable_bps[row]),
            capacity_bps=int(self._cell.fleet.appliance_capacity_bps[row]),
            inventory=self.thing("appliance", name),
            report=self._newest(self._trail.health.find(name, topic, self._records), heard),
            change=change,
            told=last,
        )

    def _newest(self, found: Source | None, exists: bool) -> Origin:
        if found is None:
            return self.origin("", -1, exists)
        return found

    def _link(self, row: int) -> LinkFacts:
        links, name = self._cell.links, self._cell.fleet.links.names[row]
        links.sync(self._cell.fleet)
        found = self._trail.links.find(name, TRAFFIC_LINKS.name, self._records)
        return LinkFacts(
            link=name,
            used_bps=int(links.used_bps[row]),
            capacity_bps=int(links.link_capacity_bps(self._cell.fleet)[row]),
            sample=self._newest(found, bool(links.last_at_ms[row])),
        )

    def _route(self, site: str, longest: int) -> RouteFacts | None:
        found, others = self._trail.routes.best(site, longest, self._damped_until_ms)
        if self._trail.first_cut > 1:
            known = self._route_of_state(site, longest)
            if known is not None and (found is None or known[3:6] != found[3:6]):
                return RouteFacts(known, 0, self.origin(BGP_ROUTES.name, -1))
        if found is None:
            return None
        record = self.origin(BGP_ROUTES.name, found.offset)
        return RouteFacts(found, others, record, self._damped_until_ms(found))

    def _damped_until_ms(self, route: Route) -> int:
        prefix = prefix_columns(pl.Series([route.prefix], dtype=pl.Binary))
        asked = (route.site, route.peer, prefix, route.path_id)
        return damped_until_ms(self._cell.routes, *asked)

    def _route_of_state(self, site: str, longest: int) -> Route | None:
        """The same as far as the state tells, which has it from before the recording as well."""
        routes = self._cell.routes
        prefixes = [one for one in covering(self._trail.address) if one[16] <= longest]
        ids = routes.prefixes.find(*prefix_columns(pl.Series(prefixes, dtype=pl.Binary)))
        rows = routes.rows_of(ids[ids >= 0])
        hops, med = routes.attributes()
        own = np.flatnonzero(rows.site == routes.sites.get(site)).tolist()
        length = routes.by_id[2]
        figures = [
            (-int(length[rows.prefix[row]]), int(hops[at]), int(med[at]))
            for row in own
            for at in (int(rows.attribute[row]),)
        ]
        if not figures:
            return None
        size, as_path_len, best = min(figures, key=lambda one: (one[0], one[1], max(one[2], 0)))
        prefix = next(one for one in prefixes if one[16] == -size)
        return Route(site, "", 0, prefix, as_path_len, best, -1)

    def _path(self, name: str, site: int, prefix: bytes) -> PathFacts | None:
        paths = self._cell.paths
        key = int.from_bytes(prefix[:8], "big"), int.from_bytes(prefix[8:16], "big")
        here = (paths.site == site) & (paths.hi == key[0]) & (paths.lo == key[1])
        rows = np.flatnonzero(here & (paths.length == prefix[16]))
        if not len(rows):
            return None
        row = int(rows[0])
        step_ms = rtt_ms_of_step(int(paths.step[row]))
        found = self._trail.paths.find(
            self._trail.site_path(name, prefix), TRAFFIC_PATHS.name, self._records
        )
        loss = round(float(paths.loss[row]), 6)
        return PathFacts(int(paths.rtt_us[row]), step_ms, loss, self._newest(found, True))


def _last(told: Iterable[Told]) -> Told | None:
    return next(reversed([*told]), None)


def _of_classes(told: Told) -> bool:
    """Whether a site's verdict says which classes it may serve."""
    to = told.row.to_state
    return to == "NONE" or set(to.split("+")) <= set(CLASS_NAMES[:CLASSES])
