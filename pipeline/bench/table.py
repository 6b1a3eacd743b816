"""The `table` benchmark: a whole Internet table at 200 sites, built at once, then kept up to date.

Each stage is a process of its own, so that memory is measured honestly: `prepare` makes the rows of
bgp.routes as the decoder would hand them over and lays them down in chunks; `measure` is what a
worker does with them (fold, full build, cuts with 1,000 changed prefixes, lookups); `peers` builds
the table of a stated part of the prefixes in the straightforward ways, next to ours, and compares
the rankings. The value is the full build: tables from the routes in the state. Folding the rows
into the state is in `detail.fold_s`, and both together in `detail.rows_to_table_s`.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from pipeline.bench.announcements import (
    Announcements,
    announce,
    find_routes,
    read_prefixes,
    site_names,
)
from pipeline.bench.tablepeers import compare
from pipeline.bench.tableworld import REGION, changes, fleet_for
from pipeline.config import SteeringConfig
from pipeline.decide.groups import RegionTable
from pipeline.state.lpm import PrefixTree
from pipeline.state.paths import Paths
from pipeline.state.routes import Routes
from pipeline.wire.rows import Account, TopicRows
from schemas.registry import BGP_ROUTES

SITES = 200
CHANGED = 1000
ROUNDS = 9
LOOKUPS = 100_000
_NOW_MS = 1_800_000_000_000


def run(data: Path | None = None) -> dict[str, Any]:
    """Run all stages; `data`: the folder that holds routes/ (see `find_routes`). Returns name,
    value, unit, ratios and detail; UsageError where the table of prefixes is not there."""
    source = find_routes(data)
    with tempfile.TemporaryDirectory(prefix="edgesteer-table-") as folder:
        prepared = _stage("prepare", str(source), folder)
        measured = _stage("measure", folder)
        peers = _stage("peers", folder)
    return {
        "name": "table",
        "value": measured["build_s"],
        "unit": "s",
        "ratios": peers["ratios"],
        "detail": {**prepared, **measured, "peers": peers},
    }


def _stage(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(  # noqa: S603  (this very module, with arguments of our own)
        [sys.executable, "-m", "pipeline.bench.table", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


def prepare(source: str, folder: str) -> dict[str, Any]:
    """Announce the prefixes of `source`; lay down the rows in chunks, and the announcements."""
    prefixes, origin = read_prefixes(Path(source))
    made = announce(prefixes, origin, SITES)
    for number, rows in enumerate(made.chunks()):
        rows.frames["Route"].write_ipc(Path(folder) / f"{number:03d}.arrow")
    made.save(Path(folder) / "announcements.npz")
    return {"source": Path(source).name, "prefixes_read": len(origin), "sites": SITES}


def measure(folder: str) -> dict[str, Any]:
    """Fold, build, change and look up; seconds, milliseconds and megabytes."""
    chunks = sorted(Path(folder).glob("*.arrow"))
    fleet, routes, config = fleet_for(site_names(SITES)), Routes(), SteeringConfig()
    out: dict[str, Any] = {"rss_before_mb": _peak_mb(), "fold_s": 0.0}
    cpu = [time.process_time()]
    for chunk in chunks:
        rows = TopicRows(BGP_ROUTES.name, {"Route": pl.read_ipc(chunk.read_bytes())})
        out["fold_s"] += _seconds(lambda rows=rows: _fold(routes, rows, config))  # type: ignore[misc]
    out["rss_folded_mb"] = _peak_mb()
    cpu.append(time.process_time())
    table, paths = RegionTable(fleet.regions.get(REGION)), Paths()
    out["build_s"] = _seconds(lambda: table.update(routes, fleet, paths, config))
    cpu.append(time.process_time())
    out |= {"fold_cpu_s": cpu[1] - cpu[0], "build_cpu_s": cpu[2] - cpu[1]}
    out["rss_peak_mb"] = _peak_mb()
    out["rows_to_table_s"] = out["fold_s"] + out["build_s"]
    out |= {"routes": len(routes), "prefixes": len(table), "groups": int(table.alive.sum())}
    out |= {"group_entries": int(table.count[table.alive].sum()), "depth": _depth(table)}

    made = Announcements.load(Path(folder) / "announcements.npz")
    folds, updates, touched = [], [], []
    for number in range(ROUNDS):
        rows = changes(made, CHANGED, number)
        folds.append(_seconds(lambda rows=rows: _fold(routes, rows, config)))  # type: ignore[misc]
        start = time.perf_counter()
        change = table.update(routes, fleet, paths, config)
        updates.append(time.perf_counter() - start)
        touched.append(len(change.set_hi) + len(change.removed_hi))
    both = sorted(fold + update for fold, update in zip(folds, updates, strict=True))
    out["update_changed_prefixes"] = CHANGED
    out["update_each_ms"] = [
        round(1e3 * (fold + update), 1) for fold, update in zip(folds, updates, strict=True)
    ]
    out["update_ms"] = 1e3 * both[len(both) // 2]
    out["update_worst_ms"] = 1e3 * both[-1]
    out["update_fold_ms"] = 1e3 * sorted(folds)[len(folds) // 2]
    out["update_moved_prefixes"] = sorted(touched)[len(touched) // 2]
    out["update_nothing_us"] = 1e6 * _seconds(lambda: table.update(routes, fleet, paths, config))

    rebuilt = RegionTable(table.region)
    rebuilt.update(routes, fleet, paths, config)
    out["equals_rebuilt"] = bool(
        np.array_equal(table.hi, rebuilt.hi)
        and np.array_equal(table.lo, rebuilt.lo)
        and np.array_equal(table.length, rebuilt.length)
        and np.array_equal(table.group_id[table.group], rebuilt.group_id[rebuilt.group])
    )
    pick = np.random.default_rng(1).integers(0, len(table), LOOKUPS)
    hi, lo = table.hi[pick], table.lo[pick] | np.uint64(1)
    table.match(hi[:1], lo[:1])
    out["match_us"] = 1e6 * _seconds(lambda: table.match(hi, lo)) / LOOKUPS
    return out


def _fold(routes: Routes, rows: TopicRows, config: SteeringConfig) -> None:
    account = Account()
    account.arrive(rows)
    routes.fold(rows, _NOW_MS, config, account)
    account.close()


def _depth(table: RegionTable) -> int:
    """Prefixes in the longest chain of nested ones."""
    tree = PrefixTree()
    tree.build(np.arange(len(table), dtype=np.int32), (table.hi, table.lo, table.length))
    depth, level = 0, tree.order
    while len(level):
        depth, level = depth + 1, tree.parent[level]
        level = level[level >= 0]
    return depth


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _peak_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20) if sys.platform == "darwin" else peak // (1 << 10)


def peers(folder: str) -> dict[str, Any]:
    """Ours and the straightforward ways on the same part of the prefixes."""
    return compare(Announcements.load(Path(folder) / "announcements.npz"))


if __name__ == "__main__":
    stages: dict[str, Callable[..., dict[str, Any]]] = {
        "prepare": prepare,
        "measure": measure,
        "peers": peers,
    }
    os.write(1, orjson.dumps(stages[sys.argv[1]](*sys.argv[2:])))
