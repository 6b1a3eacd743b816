"""The straightforward ways to the same table, on a stated part of it, with the result compared.

`python_dicts`: routes in dicts by prefix; for every prefix look up every shorter one, collect each
site's longest, sort. `polars`: join every prefix with the routes of every length that covers it,
sort, keep each site's first, collect lists. Both flatten what is inherited, neither can be updated;
both rank as the rules say (no RTT, one location), ours does the whole job, with groups and ids.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import polars as pl

from pipeline.bench.announcements import Announcements
from pipeline.bench.tableworld import REGION, fleet_for
from pipeline.config import SteeringConfig
from pipeline.decide.distance import distance_km, points
from pipeline.decide.groups import RegionTable
from pipeline.state.fleet import Fleet
from pipeline.state.paths import Paths
from pipeline.state.routes import Routes
from pipeline.wire.rows import Account

#: IPv4 prefixes from 64.0.0.0 to 71.255.255.255: about a tenth of all, nested as they are.
FIRST, LAST = 64 << 24, (72 << 24) - 1
T = TypeVar("T")
_MAPPED = 0xFFFF << 32
#: prefix (address, length) -> sites in order
Table = dict[tuple[int, int], list[str]]


def compare(made: Announcements) -> dict[str, Any]:
    """Seconds of each way, ours divided by each, and whether all rankings are the same."""
    part, sites_max = _part(made), SteeringConfig().proximity.sites_max
    fleet = fleet_for(made.sites)
    frame = _frame(part, fleet)
    routes, account = Routes(), Account()
    for rows in part.chunks():
        account.arrive(rows)
        routes.fold(rows, 0, SteeringConfig(), account)
    table = RegionTable(fleet.regions.get(REGION))
    ours_s, _ = _timed(lambda: table.update(routes, fleet, Paths(), SteeringConfig()))
    dicts_s, by_dicts = _timed(lambda: with_dicts(frame, sites_max))
    polars_s, by_polars = _timed(lambda: with_polars(frame, sites_max))
    ours = _contents(table, fleet)
    return {
        "part": "IPv4 prefixes inside 64.0.0.0/5",
        "prefixes": len(table),
        "routes": len(routes),
        "seconds": {"edgesteer": ours_s, "python_dicts": dicts_s, "polars": polars_s},
        "ratios": {"python_dicts": ours_s / dicts_s, "polars": ours_s / polars_s},
        "same_rankings": ours == by_dicts == by_polars,
    }


def with_dicts(frame: pl.DataFrame, sites_max: int) -> Table:
    """Every prefix's ranking by looking up all that may cover it."""
    routes: dict[tuple[int, int], dict[str, tuple[int, int, int]]] = {}
    columns = frame.select("address", "length", "site", "hops", "med", "km")
    for address, length, site, hops, med, km in columns.iter_rows():
        announced = routes.setdefault((address, length), {})
        key = (hops, med, km)
        announced[site] = min(announced.get(site, key), key)
    table: Table = {}
    for address, length in routes:
        found: dict[str, tuple[int, int, int, int, str]] = {}
        for shorter in range(length, 7, -1):
            mask = ((1 << shorter) - 1) << (32 - shorter)
            for site, key in routes.get((address & mask, shorter), {}).items():
                if site not in found:
                    found[site] = (-shorter, *key, site)
        table[address, length] = [key[4] for key in sorted(found.values())[:sites_max]]
    return table


def with_polars(frame: pl.DataFrame, sites_max: int) -> Table:
    """The same by a join for every length."""
    prefixes = frame.select("address", "length").unique()
    parts = []
    for shorter in frame.get_column("length").unique().sort():
        mask = ((1 << shorter) - 1) << (32 - shorter)
        inside = prefixes.filter(pl.col("length") >= shorter)
        inside = inside.with_columns(cover=pl.Series(inside["address"].to_numpy() & mask))
        announced = frame.filter(pl.col("length") == shorter).drop("length")
        parts.append(
            inside.join(announced, left_on="cover", right_on="address").with_columns(
                near=pl.lit(-shorter, dtype=pl.Int64)
            )
        )
    ranked = (
        pl.concat(parts)
        .sort("address", "length", "near", "hops", "med", "km", "site")
        .unique(["address", "length", "site"], keep="first", maintain_order=True)
        .group_by("address", "length", maintain_order=True)
        .agg(pl.col("site").head(sites_max))
    )
    return {(address, length): sites for address, length, sites in ranked.iter_rows()}


def _part(made: Announcements) -> Announcements:
    hi, lo, _ = made.prefixes
    inside = (hi == 0) & (lo >= np.uint64(_MAPPED + FIRST)) & (lo <= np.uint64(_MAPPED + LAST))
    kept = inside[made.prefix]
    return Announcements(
        made.prefixes,
        made.sites,
        made.prefix[kept],
        made.site[kept],
        made.peer[kept],
        made.as_path_len[kept],
        made.med[kept],
    )


def _frame(part: Announcements, fleet: Fleet) -> pl.DataFrame:
    """The announcements as the straightforward ways want them."""
    site = np.array([fleet.sites.get(name) for name in part.sites])
    here = points(fleet.site_lat[site], fleet.site_lon[site])
    there = points(fleet.region_lat[:1], fleet.region_lon[:1]).repeat(len(site), axis=0)
    return pl.DataFrame(
        {
            "address": (part.prefixes[1][part.prefix] & np.uint64(2**32 - 1)).astype(np.int64),
            "length": part.prefixes[2][part.prefix].astype(np.int64) - 96,
            "site": pl.Series(part.sites).gather(part.site),
            "hops": part.as_path_len.astype(np.int64),
            "med": np.maximum(part.med, 0),
            "km": distance_km(here, there).astype(np.int64)[part.site],
        }
    )


def _contents(table: RegionTable, fleet: Fleet) -> Table:
    names = np.array(fleet.sites.names)[table.site].tolist()
    start, count = table.start.tolist(), table.count.tolist()
    address = (table.lo & np.uint64(2**32 - 1)).tolist()
    length = (table.length - 96).tolist()
    return {
        (at, bits): names[start[group] : start[group] + count[group]]
        for at, bits, group in zip(address, length, table.group.tolist(), strict=True)
    }


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found
