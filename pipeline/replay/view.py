"""What cells had decided at a moment, as frames: what can be compared, kept and drawn.

Idea: a cell goes on living while its log is folded; a View is what of it concerns an SRE, taken
between two steps. All that is asked of it later is columns.

    prefixes    region, hi, lo, length, group; vod_bps, live_bps, game_bps: what its clients draw
    blocks      region, hi, lo; vod_bps, live_bps, game_bps: client blocks that draw anything
    shares      region, group, class, site, share (of 10,000), demand_bps, assigned_bps; site null:
                drawn and served by nobody, group null as well: no prefix covers it
    sites       region, site, state (of load), serves, capacity_bps, target_bps, vod_bps, live_bps,
                game_bps, load_bps (projected), overflow_bps (as of `overflow_bps`)
    appliances  region, site, appliance, state, weight, reason
    regions     region, partition, prefixes, groups, held (why its table is held back, or null)

Rule: prefixes, shares and weights are those published; demand is the level at the moment, by
longest match over the published prefixes; loads are the plane's own projection, which rests on the
demand that it last planned for (at most a bucket of demand ago) and is what it decides by.
Frames are sorted by what names their rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.cell import Cell
from pipeline.config import CODE_VERSION, SteeringConfig
from pipeline.cut import Cut
from pipeline.decide.sites import CLASS_NAMES, Load
from pipeline.decide.units import load_bps
from pipeline.publishedprefixes import bytes_of
from pipeline.regions import TEN_THOUSANDTHS, Region
from pipeline.replay.portions import portions
from pipeline.state.lpm import PrefixTree
from pipeline.wire.decode import decode

CLASS = pl.Enum(CLASS_NAMES)
BY_CLASS = tuple(f"{name.lower()}_bps" for name in CLASS_NAMES)
#: Load above target that may be pacing's doing, in ten-thousandths.
PACED_MAX = 100
_DEMAND: dict[str, Any] = dict.fromkeys(BY_CLASS, pl.Int64)

#: Frame of a View -> its columns.
SCHEMAS: dict[str, dict[str, Any]] = {
    "prefixes": {
        **{"region": pl.String, "hi": pl.UInt64, "lo": pl.UInt64, "length": pl.UInt8},
        **{"group": pl.UInt64, **_DEMAND},
    },
    "blocks": {"region": pl.String, "hi": pl.UInt64, "lo": pl.UInt64, **_DEMAND},
    "shares": {
        **{"region": pl.String, "group": pl.UInt64, "class": CLASS, "site": pl.String},
        **{"share": pl.Int64, "demand_bps": pl.Int64, "assigned_bps": pl.Int64},
    },
    "sites": {
        **{"region": pl.String, "site": pl.String, "state": pl.String, "serves": pl.String},
        **{"capacity_bps": pl.Int64, "target_bps": pl.Int64, **_DEMAND},
        **{"load_bps": pl.Int64, "overflow_bps": pl.Int64},
    },
    "appliances": {
        **{"region": pl.String, "site": pl.String, "appliance": pl.String},
        **{"state": pl.String, "weight": pl.Int64, "reason": pl.String},
    },
    "regions": {
        **{"region": pl.String, "partition": pl.Int64, "prefixes": pl.Int64},
        **{"groups": pl.Int64, "held": pl.String},
    },
}


@dataclass(frozen=True, slots=True)
class CellMoment:
    """Where a cell stood: after which cut, under which configuration, with which tables."""

    partition: int
    cut: int
    at_ms: int
    config_hash: str
    table_hash: str


@dataclass(frozen=True, slots=True)
class View:
    """Frames as in SCHEMAS. `source`: where it is from, in words; `code_version`, `edgesteer`: of
    the program that folded it; `cells`: in order of partition."""

    source: str
    cells: tuple[CellMoment, ...]
    code_version: int
    edgesteer: str
    prefixes: pl.DataFrame
    blocks: pl.DataFrame
    shares: pl.DataFrame
    sites: pl.DataFrame
    appliances: pl.DataFrame
    regions: pl.DataFrame

    @property
    def at_ms(self) -> int:
        """Of the newest cut in it."""
        return max((cell.at_ms for cell in self.cells), default=0)

    def frames(self) -> dict[str, pl.DataFrame]:
        """By name."""
        return {name: getattr(self, name) for name in SCHEMAS}

    def named(self, source: str) -> "View":
        """The same, called otherwise."""
        return replace(self, source=source)

    @classmethod
    def together(cls, parts: Iterable["View"], source: str) -> "View":
        """The cells of several views, none of them twice, as one."""
        parts = sorted(parts, key=lambda part: part.cells[0].partition)
        frames = {
            name: pl.concat([pl.DataFrame(schema=schema), *(getattr(one, name) for one in parts)])
            for name, schema in SCHEMAS.items()
        }
        cells = tuple(cell for part in parts for cell in part.cells)
        return cls(source, cells, CODE_VERSION, version("edgesteer"), **frames)


def take_view(cell: Cell, cut: Cut, config: SteeringConfig) -> View:
    """What `cell` had decided after `cut`, made under `config`. Nothing of the view is the cell's
    own memory; the cell is not changed."""
    regions = [_region(cell, region) for region in cell.regions.values()]
    frames = {
        name: pl.concat([pl.DataFrame(schema=SCHEMAS[name]), *(one[name] for one in regions)])
        for name in ("prefixes", "blocks", "shares", "regions")
    }
    moment = CellMoment(
        partition=cell.partition,
        cut=cut.number,
        at_ms=cut.at_ms,
        config_hash=config.hash(),
        table_hash=f"{cell.ledger.table_hash:016x}",
    )
    return View(
        f"cell {cell.partition}",
        (moment,),
        CODE_VERSION,
        version("edgesteer"),
        sites=_sites(cell, config),
        appliances=_appliances(cell),
        **frames,
    )


def matched(prefixes: pl.DataFrame, blocks: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Row in `prefixes` (hi, lo, length) of the longest around each block (hi, lo); -1: none."""
    by_id = tuple(prefixes.get_column(name).to_numpy() for name in ("hi", "lo", "length"))
    tree = PrefixTree()
    tree.build(np.arange(prefixes.height, dtype=np.int32), (by_id[0], by_id[1], by_id[2]))
    hi, lo = (blocks.get_column(name).to_numpy() for name in ("hi", "lo"))
    return tree.match(hi, lo).astype(np.int64)


def overflow_bps(region: Region, sites: int, config: SteeringConfig) -> npt.NDArray[np.int64]:
    """int64[sites]: load above target for which the region found no room.

    What is less than `min_shift` of the site's load (and at most 1 %) does not count: that much may
    stay where it is because moving it is not worth making, and what is decided between two plans,
    with all other shares held still, takes it for overflow."""
    found = region.shares.sites.longer(sites)
    paced = min(config.assignment.min_shift, PACED_MAX)
    spare = found.load.sum(axis=1) // TEN_THOUSANDTHS * paced
    return load_bps(np.where(found.overflow > spare, found.overflow, 0))


def by_class(frame: pl.DataFrame, index: list[str], to: str = "demand_bps") -> pl.DataFrame:
    """One row per class instead of one column."""
    names = dict(zip(BY_CLASS, CLASS_NAMES, strict=True))
    long = frame.unpivot(BY_CLASS, index=index, variable_name="class", value_name=to)
    return long.with_columns(pl.col("class").replace_strict(names, return_dtype=CLASS))


def _region(cell: Cell, region: Region) -> dict[str, pl.DataFrame]:
    published, demand = cell.ledger.prefixes[region.name], cell.demand
    raw = bytes_of(published.keys)
    group = published.group.copy()  # polars would share the memory, which the cell writes to
    words = np.ascontiguousarray(raw[:, :16]).view(">u8").astype(np.uint64)
    prefixes = pl.DataFrame(
        {"hi": words[:, 0], "lo": words[:, 1], "length": raw[:, 16], "group": group}
    )
    here = np.flatnonzero(demand.block_region == region.index)
    level = demand.level_bps(cell.now_ms)[here]
    blocks = pl.DataFrame({"hi": demand.block_hi[here], "lo": demand.block_lo[here]})
    prefix = matched(prefixes, blocks)
    drawn = np.zeros((prefixes.height + 1, len(BY_CLASS)), np.int64)  # the last row: no prefix
    np.add.at(drawn, prefix, level)
    prefixes = prefixes.with_columns(
        pl.Series(name, drawn[:-1, k]) for k, name in enumerate(BY_CLASS)
    )
    counts = {"partition": cell.partition, "prefixes": prefixes.height}
    counts["groups"] = int(np.count_nonzero(_served(region)))
    held = region.guard.held_reason
    found = {
        "prefixes": prefixes,
        "blocks": blocks.with_columns(
            pl.Series(name, level[:, k]) for k, name in enumerate(BY_CLASS)
        )
        .filter(pl.any_horizontal(pl.col(BY_CLASS) > 0))
        .sort("hi", "lo"),
        "shares": _shares(cell, region, prefixes, drawn[-1]),
        "regions": pl.DataFrame({**counts, "held": None if held is None else str(held)}),
    }
    return {
        name: frame.with_columns(region=pl.lit(region.name)).select(
            pl.col(column).cast(dtype) for column, dtype in SCHEMAS[name].items()
        )
        for name, frame in found.items()
    }


def _served(region: Region) -> npt.NDArray[np.bool_]:
    groups = region.shares.groups
    served: npt.NDArray[np.bool_] = groups.alive & (groups.record_hash != 0)
    return served


def _shares(
    cell: Cell, region: Region, prefixes: pl.DataFrame, uncovered: npt.NDArray[np.int64]
) -> pl.DataFrame:
    groups = region.shares.groups
    entry, klass = np.nonzero(groups.shares * _served(region)[groups.owner, None])
    held = pl.DataFrame(
        {
            "group": groups.group[groups.owner[entry]],
            "class": pl.Series(np.array(CLASS_NAMES)[klass], dtype=CLASS),
            "site": pl.Series(cell.fleet.sites.names, dtype=pl.String).gather(groups.site[entry]),
            "share": groups.shares[entry, klass].astype(np.int64),
        }
    )
    drawn = (
        prefixes.group_by("group")
        .agg(pl.col(BY_CLASS).sum())
        .pipe(by_class, ["group"])
        .filter(pl.col("demand_bps") > 0)
    )
    lost = drawn.join(held, on=("group", "class"), how="anti")
    nobody = pl.DataFrame({"class": CLASS_NAMES, "demand_bps": uncovered})
    nowhere = pl.concat(
        [lost, nobody.filter(pl.col("demand_bps") > 0).with_columns(pl.col("class").cast(CLASS))],
        how="diagonal",
    ).with_columns(share=pl.lit(TEN_THOUSANDTHS, pl.Int64))
    found = held.join(drawn, on=("group", "class"), how="left").with_columns(
        pl.col("demand_bps").fill_null(0)
    )
    found = pl.concat([found, nowhere], how="diagonal").sort("group", "class", "site")
    key = ["group", "class"]
    assigned = portions(found, key, "demand_bps", "share", TEN_THOUSANDTHS)
    return found.with_columns(assigned_bps=assigned)


def _sites(cell: Cell, config: SteeringConfig) -> pl.DataFrame:
    fleet, now, number = cell.fleet, cell.eligibility, len(cell.fleet.sites)
    target = round(config.assignment.target * TEN_THOUSANDTHS)
    load, overflow = np.zeros((number, len(BY_CLASS)), np.int64), np.zeros(number, np.int64)
    state = np.full(number, Load.ROOM, np.int64)
    for region in cell.regions.values():
        sites = region.shares.sites.longer(number)
        load += sites.load
        overflow += overflow_bps(region, number, config)
        state = np.where(sites.taking, Load.TAKING, state)
        state = np.where(sites.spilled, Load.SPILLING, state)
    state = np.where(overflow > 0, Load.OVERFLOWING, state)
    load = load_bps(load)
    bits = (now.eligible * (1 << np.arange(len(CLASS_NAMES)))).sum(axis=1)
    column = {
        "region": pl.Series(fleet.regions.names, dtype=pl.String).gather(fleet.site_region),
        "site": pl.Series(fleet.sites.names, dtype=pl.String),
        "state": pl.Series([one.name for one in Load]).gather(state),
        "serves": pl.Series(_CLASS_SETS).gather(bits),
        "capacity_bps": now.site_bps.copy(),
        "target_bps": now.site_bps // 1000 * target // 10,
        **{name: load[:, k] for k, name in enumerate(BY_CLASS)},
        "load_bps": load.sum(axis=1),
        "overflow_bps": overflow,
    }
    living = pl.Series(fleet.site_alive | (load.sum(axis=1) > 0))
    return pl.DataFrame(column, schema=SCHEMAS["sites"]).filter(living).sort("region", "site")


#: By bit mask of classes, as verdicts say it.
_CLASS_SETS = [
    "+".join(name for bit, name in enumerate(CLASS_NAMES) if mask >> bit & 1) or "NONE"
    for mask in range(1 << len(CLASS_NAMES))
]


def _appliances(cell: Cell) -> pl.DataFrame:
    rows = []
    for value in cell.ledger.weights.values():
        record = decode(value)[1]
        where = {"region": record["region"], "site": record["site"]}
        rows += [{**where, **one} for one in record["appliances"]]
    found = pl.DataFrame(rows, schema=SCHEMAS["appliances"])
    return found.sort("region", "site", "appliance")
