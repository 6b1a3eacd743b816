"""The `step` benchmark: what one cut of a cell costs that is as large as a cell gets.

In one process, on one core: a cell of 2,000 appliances at 200 sites hears of 1.2 million prefixes
and lives (livingcell.py) until 100,000 client blocks have drawn something. Then minutes of steady
state: plays, health, links, paths, routes that change, every second a TICK; every ten seconds an
appliance fails, which is an URGENT cut, and is well again five seconds later. Then the site that
carries most dies with all its appliances, at the evening's peak: an URGENT cut and a minute of
TICKs.

    value = 99th percentile of the processor time of a TICK's `step` in the steady state

What is timed is `step` alone: fold and decide, until the effects are there. Decoding the same rows,
which a worker does as they arrive, is timed apart, and is one peer: no cut can cost less than to
have its records as columns. The other is the full build of the tables, which is what a cut would
cost that kept nothing up to date. Where the time goes is told by the sections' own calls.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson

from pipeline.bench.alone import peak_mb, serve, stage
from pipeline.bench.common import Say, machine
from pipeline.bench.costs import Costs, warm_up
from pipeline.bench.livingcell import LivingCell
from pipeline.bench.sections import STEP, Stopwatch
from pipeline.cell import Cell
from pipeline.decide.groups import RegionTable
from pipeline.sim.size import SimSize

SECONDS, LOSS_SECONDS = 180, 60
#: Plays a second: as many as it takes for so many blocks (most report each ten seconds).
SIZE = SimSize(
    regions=1, sites=200, appliances=2_000, prefixes=1_200_000, rate=20_000, churn_per_s=30.0
)
BLOCKS = 100_000
FAILURES_EVERY_S = 10
SEED = 1
WANTED_MS = {"steady_p99": 250, "site_loss_worst": 1000}


def run(
    say: Say, seconds: int = SECONDS, size: SimSize = SIZE, blocks: int = BLOCKS
) -> dict[str, Any]:
    """Returns name, value, unit, ratios and detail."""
    say(f"a cell of {size.prefixes:,} prefixes lives for {seconds} s; then a site dies ...")
    asked = (orjson.dumps(asdict(size)).decode(), str(seconds), str(blocks))
    return summary(stage(__name__, "measure", *asked))


def summary(measured: dict[str, Any]) -> dict[str, Any]:
    """The result."""
    value = measured["steady"]["tick_processor_ms"]["p99"]
    peers = {
        "decode_only": measured["steady"]["decode_processor_ms"]["p99"],
        "full_build": measured["full_build_ms"],
    }
    return {
        "name": "step",
        "value": value,
        "unit": "ms",
        "ratios": {name: round(value / peer, 3) for name, peer in peers.items()},
        "detail": {"wanted_ms": WANTED_MS, **measured, "machine": machine()},
    }


def measure(size: str, seconds: str, blocks: str) -> dict[str, Any]:
    """All of it, in this process."""
    world = LivingCell(SEED, SimSize(**orjson.loads(size)))
    warm = warm_up(world, int(blocks))
    gc.collect()
    gc.freeze()  # as a worker does
    cell = world.cell
    with Stopwatch(STEP, time.process_time) as watch:
        steady = _steady(world, int(seconds))
    cuts = watch.calls["step: states"]
    return {
        "cell": {
            "appliances": int(cell.fleet.live_appliances().sum()),
            "sites": int(cell.fleet.site_alive.sum()),
            "prefixes": cell.ledger.prefix_count(),
            "routes": len(cell.routes),
            "groups": cell.ledger.group_count(),
            "blocks": len(cell.demand),
            "plays_per_s": orjson.loads(size)["rate"],
        },
        "warm_up_s": warm,
        "steady": steady,
        "site_loss": _site_loss(world, min(int(seconds), LOSS_SECONDS)),
        "where_ms_a_cut": {
            name: round(1e3 * watch.took[name] / cuts, 2) for name in sorted(watch.took)
        },
        "rss_peak_mb_with_the_world": peak_mb(),
        "full_build_ms": _full_build_ms(world),
    }


def _steady(world: LivingCell, seconds: int) -> dict[str, Any]:
    """So many seconds in which now and then an appliance fails."""
    fleet, costs = world.cell.fleet, Costs(world)
    living = np.flatnonzero(fleet.live_appliances())
    for second in range(seconds):
        number, phase = divmod(second, FAILURES_EVERY_S)
        victim = fleet.appliances.names[living[number * 37 % len(living)]]
        if phase == 0:
            costs.urgent("FAIL", victim)
        elif phase == FAILURES_EVERY_S // 2:
            costs.urgent("RECOVER", victim)
        costs.tick()
    return costs.spreads()


def _site_loss(world: LivingCell, seconds: int) -> dict[str, Any]:
    """The site that sends most dies; what the cuts after it cost."""
    cell = world.cell
    egress, capacity = cell.measured_bps()
    site, costs = int(egress.argmax()), Costs(world)
    costs.urgent("FAIL", cell.fleet.sites.names[site])
    for _ in range(seconds):
        costs.tick()
    load = cell.projected_bps().sum(axis=1)
    return {
        "carried": round(float(egress[site] / egress.sum()), 4),
        "fleet_use_before": round(float(egress.sum() / capacity.sum()), 3),
        "left_with_the_site": int(load[site]),
        "worst_ms": round(max(costs.processor["tick"] + costs.processor["urgent"]), 1),
        **costs.spreads(),
    }


def _full_build_ms(world: LivingCell) -> float:
    """What it takes to make the region's table from the routes, kept up to date by every cut."""
    cell: Cell = world.cell
    (index,) = cell.regions
    began = time.process_time()
    RegionTable(index).update(cell.routes, cell.fleet, cell.paths, world.config)
    return round(1e3 * (time.process_time() - began), 1)


if __name__ == "__main__":
    stages: dict[str, Callable[..., dict[str, Any]]] = {"measure": measure}
    serve(stages)
