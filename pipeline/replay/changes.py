"""What a what-if changes: each a `Change` of the fold, to be chained.

Rule: a change speaks the language of the log. It turns rows into those that publishers would have
sent, and puts rows in where they would have sent one; nothing is done to the cell by hand, so that
what follows is what the plane would have done. Rows that are put in stand before those of their
cut and have the offset of the record before them, so that what the log says later wins.

Failures, drains, lost links and MEDs begin at a moment. Demand and settings hold all along: a
window of demand and the memory of a setting would otherwise be half of one and half of the other.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import numpy as np
import orjson
import polars as pl
from pydantic import BaseModel, ValidationError

from pipeline.cell import Cell
from pipeline.config import SteeringConfig
from pipeline.cut import Cut
from pipeline.errors import UsageError
from pipeline.publishedprefixes import keys_of
from pipeline.replay.fold import Rows
from pipeline.replay.rowsput import frame_of, made, put, record_plan
from pipeline.state.fleet import Fleet
from pipeline.state.screens import BYTES_MAX
from pipeline.state.sessionroutes import session_routes
from pipeline.wire.address import prefix_bytes
from pipeline.wire.rows import OFFSET, TopicRows
from schemas.registry import APPLIANCE_HEALTH, BGP_ROUTES, FLEET_INVENTORY, PLAY_EVENTS

_KINDS = ("EMBEDDED", "IX")
#: Numerator and denominator of a factor of demand: a terabyte times this still fits.
FACTOR_PART_MAX = 1_000_000
#: What a failed appliance reports of its load, as the simulation's do.
_IDLE = ("egress_bps", "connections", "requests", "errors", "retransmits")


class Settings:
    """Another configuration: KEY=VALUE for every cut. UsageError for keys that do not exist and
    values that cannot be."""

    def __init__(self, pairs: Iterable[str]) -> None:
        self._values: dict[str, dict[str, Any]] = {}
        for pair in pairs:
            key, equals, text = pair.partition("=")
            table, _, name = key.strip().partition(".")
            if not equals or key.strip() not in known_settings():
                there = ", ".join(known_settings())
                raise UsageError(f"{pair!r}: no such setting; write KEY=VALUE with one of: {there}")
            self._values.setdefault(table, {})[name] = _value(text)
        self._made: dict[str, SteeringConfig] = {}
        self.of(SteeringConfig())

    def __call__(
        self, cell: Cell, rows: Rows, cut: Cut, config: SteeringConfig
    ) -> tuple[Rows, SteeringConfig]:
        if cut.config_hash not in self._made:
            self._made[cut.config_hash] = self.of(config)
        return rows, self._made[cut.config_hash]

    def of(self, config: SteeringConfig) -> SteeringConfig:
        """`config` with these settings."""
        fields = config.model_dump()
        for table, values in self._values.items():
            fields[table] |= values
        try:
            return SteeringConfig.model_validate(fields)
        except ValidationError as error:
            told = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
            raise UsageError("; ".join(told)) from None


@cache
def known_settings() -> tuple[str, ...]:
    """Every key that `Settings` takes."""
    return tuple(
        f"{table}.{name}"
        for table, value in SteeringConfig()
        if isinstance(value, BaseModel)
        for name in type(value).model_fields
    )


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


class Failed:
    """Appliances, and all those of sites, report FAILED from a moment on; where one reports nothing
    in a cut, its report is put in."""

    def __init__(self, sites: Iterable[str], appliances: Iterable[str], from_ms: int) -> None:
        self._sites, self._appliances = frozenset(sites), frozenset(appliances)
        self._from_ms = from_ms

    def __call__(
        self, cell: Cell, rows: Rows, cut: Cut, config: SteeringConfig
    ) -> tuple[Rows, SteeringConfig]:
        names = (
            self._names(cell.fleet) if cut.at_ms >= self._from_ms else pl.Series(dtype=pl.String)
        )
        if names.is_empty():
            return rows, config
        frame = frame_of(rows, APPLIANCE_HEALTH.name, "Health")
        fails = pl.col("appliance").is_in(names.implode())
        frame = frame.with_columns(
            service=pl.when(fails).then(pl.lit("FAILED")).otherwise(pl.col("service").cast(pl.String))
            .cast(frame.schema["service"]),
            **{name: pl.when(fails).then(0).otherwise(pl.col(name)) for name in _IDLE},
        )  # fmt: skip
        silent = names.filter(~names.is_in(frame.get_column("appliance").implode()))
        report = {"at_ms": cut.at_ms, "service": "FAILED", "cpu": 0.0, "disk": 0.0}
        numbers = dict.fromkeys((*_IDLE, "capacity_bps", "ttfb_ms", "drain_by_ms"), 0)
        more = made("Health", silent.len(), {"appliance": silent, **report, **numbers})
        return put(rows, cut, APPLIANCE_HEALTH.name, "Health", more, frame), config

    def _names(self, fleet: Fleet) -> pl.Series:
        """Those of them that are in the inventory, in the order of their ids."""
        sites = [fleet.sites.get(name) for name in sorted(self._sites)]
        mine = np.isin(fleet.appliance_site, [site for site in sites if site >= 0])
        for name in sorted(self._appliances):
            if (found := fleet.appliances.get(name)) >= 0:
                mine[found] = True
        rows = np.flatnonzero(mine & fleet.appliance_alive)
        return pl.Series(fleet.appliances.names, dtype=pl.String).gather(rows)


class Drained:
    """Sites and regions that an operator takes out of service at a moment, all at once: where a
    drain ends. Or, with action UNDRAIN, puts back. What was ordered of them later is ordered so."""

    def __init__(
        self,
        sites: Iterable[str],
        regions: Iterable[str],
        from_ms: int,
        action: Literal["DRAIN", "UNDRAIN"] = "DRAIN",
    ) -> None:
        self._sites, self._regions = sorted(set(sites)), sorted(set(regions))
        self._from_ms, self._action = from_ms, action
        self._begun: set[int] = set()

    @property
    def words(self) -> str:
        """Such as "with fra1 out of service"."""
        names = ", ".join([*self._sites, *self._regions])
        return f"with {names} {'out of' if self._action == 'DRAIN' else 'back in'} service"

    def __call__(
        self, cell: Cell, rows: Rows, cut: Cut, config: SteeringConfig
    ) -> tuple[Rows, SteeringConfig]:
        if cut.at_ms < self._from_ms:
            return rows, config
        records = []
        if cell.partition not in self._begun:
            self._begun.add(cell.partition)
            order = {"action": self._action, "at_ms": cut.at_ms, "deadline_ms": cut.at_ms}
            records = [
                {"scope": scope, "entity": entity, "region": region, **order}
                for scope, entity, region in self._there(cell.fleet)
            ]
        more = record_plan("Drain").from_records(records)
        frame = frame_of(rows, FLEET_INVENTORY.name, "Drain")
        scope, entity = pl.col("scope").cast(pl.String), pl.col("entity")
        mine = ((scope == "SITE") & entity.is_in(self._sites)) | (
            (scope == "REGION") & entity.is_in(self._regions)
        )
        action = (
            pl.when(mine).then(pl.lit(self._action)).otherwise(pl.col("action").cast(pl.String))
        )
        frame = frame.with_columns(
            action=action.cast(frame.schema["action"]),
            deadline_ms=pl.when(mine).then(cut.at_ms).otherwise(pl.col("deadline_ms")),
        )
        return put(rows, cut, FLEET_INVENTORY.name, "Drain", more, frame), config

    def _there(self, fleet: Fleet) -> Iterator[tuple[str, str, str]]:
        """Scope, name and region of those that are in this cell."""
        for name in self._regions:
            at = fleet.regions.get(name)
            guests = [site for site, names in fleet.site_regions.items() if names[0] == name]
            if at >= 0 and fleet.region_alive[at]:
                yield "REGION", name, name
            elif guests:
                yield "REGION", name, fleet.regions.names[int(fleet.site_region[guests[0]])]
        for name in self._sites:
            at = fleet.sites.get(name)
            if at >= 0 and fleet.site_alive[at]:
                yield "SITE", name, fleet.regions.names[int(fleet.site_region[at])]


class LostLinks:
    """Links without capacity from a moment on: their sites are put in again and list them so."""

    def __init__(self, links: Iterable[str], from_ms: int) -> None:
        self._links, self._from_ms = frozenset(links), from_ms
        self._cut: set[tuple[int, str]] = set()

    def __call__(
        self, cell: Cell, rows: Rows, cut: Cut, config: SteeringConfig
    ) -> tuple[Rows, SteeringConfig]:
        if cut.at_ms < self._from_ms:
            return rows, config
        fleet, records = cell.fleet, []
        for link in sorted(self._links):
            at = fleet.links.get(link)
            if at >= 0 and fleet.link_alive[at] and (cell.partition, link) not in self._cut:
                self._cut.add((cell.partition, link))
                records.append(self._site(fleet, int(fleet.link_site[at])))
        frame = frame_of(rows, FLEET_INVENTORY.name, "Site")
        name, capacity = (pl.element().struct.field(one) for one in ("link", "capacity_bps"))
        gone = pl.when(name.is_in(sorted(self._links))).then(0).otherwise(capacity)
        frame = frame.with_columns(
            pl.col("links").list.eval(pl.struct(name, gone.alias("capacity_bps")))
        )
        more = record_plan("Site").from_records(records)
        return put(rows, cut, FLEET_INVENTORY.name, "Site", more, frame), config

    def _site(self, fleet: Fleet, site: int) -> dict[str, Any]:
        """The record of a site as it stands, but for the links."""
        name = fleet.sites.names[site]
        mine = np.flatnonzero(fleet.link_alive & (fleet.link_site == site)).tolist()
        links = [(fleet.links.names[at], int(fleet.link_capacity_bps[at])) for at in mine]
        return {
            "site": name,
            "region": fleet.regions.names[int(fleet.site_region[site])],
            "name": name,
            "kind": _KINDS[int(fleet.site_kind[site])],
            "lat": float(fleet.site_lat[site]),
            "lon": float(fleet.site_lon[site]),
            "links": [
                {"link": link, "capacity_bps": 0 if link in self._links else capacity}
                for link, capacity in links
            ],
            "regions": list(fleet.site_regions.get(site, ())),
        }


class Scaled:
    """Every play's bytes times a fraction, rounded half up; what is no number of bytes stays so."""

    def __init__(self, by: Fraction) -> None:
        self._by = by

    def __call__(
        self, cell: Cell, rows: Rows, cut: Cut, config: SteeringConfig
    ) -> tuple[Rows, SteeringConfig]:
        plays = rows.get(PLAY_EVENTS.name)
        frame = None if plays is None else plays.frames.get("PlayEvent")
        if plays is None or frame is None:
            return rows, config
        size, up, down = pl.col("bytes"), self._by.numerator, self._by.denominator
        # apart, so that nothing overflows: neither part of the fraction is above FACTOR_PART_MAX
        scaled = size // down * up + (size % down * up * 2 + down) // (2 * down)
        sound = (size >= 0) & (size <= BYTES_MAX)
        frame = frame.with_columns(
            bytes=pl.when(sound).then(pl.min_horizontal(scaled, BYTES_MAX)).otherwise(size)
        )
        frames = {**plays.frames, "PlayEvent": frame}
        return {**rows, PLAY_EVENTS.name: TopicRows(plays.topic, frames, plays.refused)}, config


class OtherMed:
    """Another MED of what a site hears from a peer: at a moment all that the cell holds of it is
    put in again, and what comes later has it from the start."""

    def __init__(self, site: str, peer: str, med: int, from_ms: int) -> None:
        self._site, self._peer, self._med, self._from_ms = site, peer, med, from_ms
        self._begun: set[int] = set()

    def __call__(
        self, cell: Cell, rows: Rows, cut: Cut, config: SteeringConfig
    ) -> tuple[Rows, SteeringConfig]:
        if cut.at_ms < self._from_ms:
            return rows, config
        frame = frame_of(rows, BGP_ROUTES.name, "Route")
        says = pl.col("action").cast(pl.String) == "ANNOUNCE"
        mine = (pl.col("site") == self._site) & (pl.col("peer") == self._peer) & says
        frame = frame.with_columns(med=pl.when(mine).then(self._med).otherwise(pl.col("med")))
        more = frame.clear().drop(OFFSET)
        if cell.partition not in self._begun:
            self._begun.add(cell.partition)
            more = self._held(cell, cut)
        return put(rows, cut, BGP_ROUTES.name, "Route", more, frame), config

    def _held(self, cell: Cell, cut: Cut) -> pl.DataFrame:
        held = session_routes(cell.routes, self._site, self._peer)
        columns = {
            "site": self._site,
            "peer": self._peer,
            # the last byte is a length above 0: nothing ends in the zeros that NumPy cuts off
            "prefix": pl.Series(keys_of(prefix_bytes(*held.prefixes)).tolist(), dtype=pl.Binary),
            "path_id": pl.Series(held.path_id),
            "action": "ANNOUNCE",
            "as_path_len": pl.Series(held.as_path_len),
            "med": self._med,
            "at_ms": cut.at_ms,
        }
        return made("Route", len(held), columns)
