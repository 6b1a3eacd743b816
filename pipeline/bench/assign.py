"""The `assign` benchmark: shares when 10 of 1,000 sites would be overloaded.

5,000 groups with 20 candidate sites each and demand in three classes; sites stand in a square, a
group's ranking is by distance, with announcement length and AS path as rough as they are. What a
site may take is 1.1 to 1.3 times what is nearest to it, of ten sites of one city 0.8 times. Round
by round demand wavers by 3 %; the shares of the last round are held, its prices guessed.

The value is the median of processor time of `solve`. Beside it: the whole problem by HiGHS as one
would write it down, one variable for each group, class and site, solved cold; its optimum must be
ours. And spill-over alone: what its detours cost, and how many groups it moves from round to
round.
"""

import time
from dataclasses import replace
from typing import Any

import highspy
import numpy as np

from pipeline.bench.common import machine, spread
from pipeline.decide.admission import NO_CAP
from pipeline.decide.assignment import (
    CLASSES,
    I16,
    TOTAL,
    Problem,
    demand_kbps,
    nearest,
    solve,
    start,
)
from pipeline.decide.greedy import relieve
from pipeline.decide.lp import SilentHighs

GROUPS, CANDIDATES, SITES, OVERLOADED = 5_000, 20, 1_000, 10
ROUNDS = 21
TARGET = 9_500
NOISE = 0.03
_SEED = 5


def run() -> dict[str, Any]:
    """Returns name, value, unit, ratios and detail."""
    rng = np.random.default_rng(_SEED)
    calm = world(rng)
    first = solve(calm)
    held, guess = {"exact": first.shares, "spill_over": _spill_over(calm)}, first.price
    took_ms: dict[str, list[float]] = {"exact": [], "spill_over": []}
    moved: dict[str, list[int]] = {"exact": [], "spill_over": []}
    for _ in range(ROUNDS):
        waver = 1 + NOISE * (2 * rng.random(calm.demand_bps.shape) - 1)
        now = replace(calm, demand_bps=(calm.demand_bps * waver).astype(np.int64))
        for name in held:
            problem = replace(now, held=held[name])
            began = time.process_time()
            if name == "exact":
                found = solve(problem, guess=guess)
                shares, guess = found.shares, found.price
            else:
                shares = _spill_over(problem)
            took_ms[name].append(1e3 * (time.process_time() - began))
            moved[name].append(_groups_moved(problem, held[name], shares))
            held[name] = shares
    began = time.process_time()
    least = _whole(now)
    whole_ms = 1e3 * (time.process_time() - began)
    solution = solve(replace(now, held=held["exact"]))
    near = _cost(now, start(now, nearest(now)).shares)
    value = float(np.median(took_ms["exact"]))
    return {
        "name": "assign",
        "value": value,
        "unit": "ms",
        "ratios": {"HiGHS, the whole problem, cold": value / whole_ms},
        "detail": {
            "groups": GROUPS,
            "candidates": CANDIDATES,
            "sites": SITES,
            "overloaded": int((start(now, nearest(now)).overload() > 0).sum()),
            "making_room": int(solution.spilled.sum()),
            "exact": solution.exact,
            "sites_with_a_price": int(solution.price.any(axis=1).sum()),
            "whole_ms": whole_ms,
            "took_ms": {name: spread(each) for name, each in took_ms.items()},
            "groups_moved_a_round": {name: spread(each) for name, each in moved.items()},
            "detour_cost_to_the_least": {
                name: (_cost(now, shares) - near) / (least - near) for name, shares in held.items()
            },
            "machine": machine(),
        },
    }


def world(rng: np.random.Generator) -> Problem:
    """Everybody nearest overloads ten sites."""
    sites, groups = rng.random((SITES, 2)), rng.random((GROUPS, 2))
    far = ((groups[:, None] - sites[None]) ** 2).sum(axis=2)
    ranking = np.argsort(far, axis=1, kind="stable")[:, :CANDIDATES].astype(np.int32)
    tier = rng.random((GROUPS, CANDIDATES)) < 0.3
    hops = rng.integers(1, 6, (GROUPS, CANDIDATES))
    cost = np.sort(tier * 1_000_000 + hops * 1_000, axis=1) + np.arange(CANDIDATES)
    mean_bps = 10_000_000 * np.array([3.0, 1.0, 0.5])
    demand = (mean_bps * (1 + rng.pareto(2.5, (GROUPS, CLASSES)))).astype(np.int64)
    load = np.zeros((SITES, CLASSES), np.int64)
    np.add.at(load, ranking[:, 0], demand)
    asked = load.sum(axis=1)
    site_bps = (asked * rng.uniform(1.1, 1.3, SITES)).astype(np.int64) + 100_000_000
    centre = np.argsort(((sites - 0.5) ** 2).sum(axis=1), kind="stable")
    busy = centre[asked[centre] > 0][:OVERLOADED]
    site_bps[busy] = asked[busy] * 8 // 10
    return Problem(
        offsets=np.arange(GROUPS + 1) * CANDIDATES,
        owner=np.repeat(np.arange(GROUPS, dtype=np.int32), CANDIDATES),
        site=ranking.reshape(-1),
        cost=cost.reshape(-1).astype(np.int32),
        group=rng.integers(0, 2**63, GROUPS).astype(np.uint64),
        demand_bps=demand,
        eligible=np.ones((SITES, CLASSES), np.bool_),
        resort=np.zeros((SITES, CLASSES), np.bool_),
        cap=np.full(SITES, NO_CAP, np.int64),
        site_bps=site_bps,
        class_bps=np.maximum(np.repeat(site_bps[:, None] * 8 // 10, CLASSES, axis=1), 2 * load),
        target=TARGET,
        other_load=np.zeros((SITES, CLASSES), np.int64),
        held=np.zeros((GROUPS * CANDIDATES, CLASSES), np.int16),
    )


def _spill_over(problem: Problem) -> I16:
    ledger = start(problem, nearest(problem))
    relieve(ledger)
    return ledger.shares


def _groups_moved(problem: Problem, before: I16, after: I16) -> int:
    """Groups of which at least 1 % of a class moved: what pacing lets through."""
    far = np.abs(after.astype(np.int64) - before).max(axis=1) >= TOTAL // 100
    return len(np.unique(problem.owner[far]))


def _cost(problem: Problem, shares: I16) -> float:
    demand = demand_kbps(problem.demand_bps)[problem.owner]
    return float((shares * demand * problem.cost[:, None].astype(np.int64)).sum()) / TOTAL


def _whole(problem: Problem) -> float:
    """Least cost, of one LP with all groups, classes and sites: HiGHS as it comes, one thread."""
    entries = GROUPS * CANDIDATES
    demand = demand_kbps(problem.demand_bps)
    entry = np.repeat(np.arange(entries), CLASSES)
    klass = np.tile(np.arange(CLASSES), entries)
    row = problem.owner[entry] * CLASSES + klass
    node = problem.site[entry].astype(np.int64) * CLASSES + klass
    rows, nodes = GROUPS * CLASSES, SITES * CLASSES
    index = np.stack([row, rows + node, rows + nodes + node // CLASSES], axis=1)
    room_class = problem.class_bps.reshape(-1) // 1000 * problem.target / TOTAL
    room_site = problem.site_bps // 1000 * problem.target / TOTAL
    served = demand.reshape(-1).astype(np.float64)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(entry), rows + nodes + SITES
    model.col_cost_ = problem.cost[entry].astype(np.float64)
    model.col_lower_, model.col_upper_ = np.zeros(len(entry)), np.full(len(entry), np.inf)
    model.row_lower_ = np.concatenate([served, np.full(nodes + SITES, -np.inf)])
    model.row_upper_ = np.concatenate([served, room_class, room_site])
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = (np.arange(len(entry) + 1) * 3).astype(np.int32)
    model.a_matrix_.index_ = index.reshape(-1).astype(np.int32)
    model.a_matrix_.value_ = np.ones(index.size)
    highs = SilentHighs()
    highs.setOptionValue("threads", 1)
    highs.passModel(model)
    highs.run()
    return float(highs.getObjectiveValue())
