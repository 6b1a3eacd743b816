"""Shares of each group's demand per site: nearest first, and exactly the cheapest way where that
would overload a site.

Idea: everybody is served by the nearest site that can serve the class. Where the demand projected
for a site exceeds target x capacity, the groups and sites around the overload are solved as a
transportation problem (pipeline/decide/exact.py), rounded to ten-thousandths
(pipeline/decide/rounding.py), and what finds no room anywhere stays above target: that overflow is
reported, never hidden. Where the solver does not come to an end, spill-over answers
(pipeline/decide/greedy.py), and `exact` says so.

Cost: demand x the proximity cost of the entry, an integer that does not decrease along a ranking,
so that everybody nearest is the optimum as long as it fits. Prices, the duals of the limits, say
what one more kbit/s would cost at a full site, in the same unit.

Source: Edge Fabric (SIGCOMM 2017) projects load without its own overrides and recomputes from
scratch; Espresso (SIGCOMM 2017) kept a greedy because an LP was only 3 to 5 % better, and dearer:
here the LP sees the neighbourhood of the overload only. The projection is demand x shares, never
measured load: the result cannot chase its own effect. Shares held break ties, and nothing else.
Rejected: moving a part of everybody (each overload would touch every group).

All arithmetic is on integers: demand in kbit/s, load in kbit/s x ten-thousandths, whose sums stay
below 2**63 up to 9e14 kbit/s and do not depend on order.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.decide.exact import Optimum, optimum
from pipeline.decide.greedy import Ledger, overload, relieve
from pipeline.decide.rounding import shares_of
from pipeline.decide.transport import Transport
from pipeline.state.lpm import ragged

TOTAL = 10_000
CLASSES = 3

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
I16 = npt.NDArray[np.int16]
U64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

#: The price of a site where one more unit would not find room anywhere.
NO_ROOM = 2**62

_CAPACITY_MAX_BPS = 9 * 10**17


@dataclass(frozen=True, slots=True)
class Problem:
    """G groups with E entries (candidate sites in rank order), S sites, classes VOD, LIVE, GAME.

    offsets int64[G + 1]: group g has the entries offsets[g] to offsets[g + 1], at least one; owner
    int32[E]: the group of each entry; site int32[E]; cost int32[E]: proximity cost, not decreasing
    within a group; group uint64[G]: stable ids, for ties; demand_bps int64[G, 3]; eligible bool[S,
    3]; resort bool[S, 3]: out of service, for groups without any eligible site; site_bps int64[S]
    and class_bps int64[S, 3]: capacity for all and per class; cap int64[S]: the most that an
    operator admits (unit of Solution); target in ten-thousandths; other_load int64[S, 3]: load that
    is not to be moved (unit of Solution); held int16[E, 3]: the shares now, which break ties."""

    offsets: I64
    owner: I32
    site: I32
    cost: I32
    group: U64
    demand_bps: I64
    eligible: Bools
    resort: Bools
    site_bps: I64
    class_bps: I64
    cap: I64
    target: int
    other_load: I64
    held: I16


@dataclass(frozen=True, slots=True)
class Solution:
    """shares int16[E, 3] in ten-thousandths: each group and class sums to 10,000, or to 0 where
    none of its sites is eligible. load int64[S, 3] in kbit/s x ten-thousandths, `other_load`
    included. spilled bool[S]: gave demand away; taking bool[S]: took some; overflow int64[S]: load
    above target for which no room was found, same unit. price int64[S, 3]: what one more kbit/s of
    a class would cost there, in units of cost (0 where there is room, NO_ROOM where there is none
    anywhere). exact: the solver came to its end (or there was nothing to solve)."""

    shares: I16
    load: I64
    spilled: Bools
    taking: Bools
    overflow: I64
    price: I64
    exact: bool


def nearest(problem: Problem) -> I64:
    """First eligible entry of each group and class: int64[G, 3], -1 where there is none. Of a group
    that has none the first one out of service."""
    first: I64 = np.full((len(problem.group), CLASSES), -1, np.int64)
    for klass in range(CLASSES):
        able = np.flatnonzero(
            _able(
                problem.site,
                problem.owner,
                len(problem.group),
                problem.eligible[:, klass],
                problem.resort[:, klass],
            )
        )
        owner = problem.owner[able]
        head = np.ones(len(able), bool)
        np.not_equal(owner[1:], owner[:-1], out=head[1:])
        first[owner[head], klass] = able[head]
    return first


def _able(
    node: npt.NDArray[np.integer],
    owner: npt.NDArray[np.integer],
    owners: int,
    eligible: Bools,
    resort: Bools,
) -> Bools:
    """Mask of the entries at eligible nodes, and of those at a resort whose owner has no other."""
    able: Bools = eligible[node]
    if resort.any():
        served = np.zeros(owners, np.bool_)
        served[owner[able]] = True
        able |= resort[node] & ~served[owner]
    return able


def nearest_load(problem: Problem, first: I64) -> I64:
    """Load int64[S] (kbit/s x ten-thousandths) with everybody at the entry `first`, which is
    `nearest(problem)`."""
    total: I64 = start(problem, first).load.sum(axis=1)
    return total


def solve(
    problem: Problem,
    first: I64 | None = None,
    *,
    exactly: bool = True,
    guess: I64 | None = None,
) -> Solution:
    """Nearest first, and the optimum where that overloads, or spill-over unless `exactly`. `first`
    is `nearest(problem)` where the caller still has it; `guess` int64[S, 3]: prices that may be
    about right (where to look first; the answer is the same)."""
    home = nearest(problem) if first is None else first
    ledger = start(problem, home)
    price = np.zeros_like(ledger.load)
    exact = True
    if ledger.overload().any():
        exact = False
        if exactly:
            asked = _Asked.of(problem, ledger, home)
            best = optimum(asked, None if guess is None else guess.reshape(-1))
            if best is not None:
                price = _take(ledger, best)
            exact = best is not None
        relieve(ledger)
    spilled, taking = _moved(problem, ledger, home)
    return Solution(
        ledger.shares, ledger.load, spilled, taking, ledger.overload(), price, exact=exact
    )


def above_target(problem: Problem, load: I64) -> I64:
    """int64[S]: what of this load is above the target of each site (unit of Solution)."""
    return overload(load, *_limits(problem))


def load_of(problem: Problem, shares: I16) -> I64:
    """Load int64[S, 3] (kbit/s x ten-thousandths) that `shares` would put on the sites."""
    load = problem.other_load.copy()
    add_load(load, problem.site, problem.owner, demand_kbps(problem.demand_bps), shares)
    return load


def add_load(
    load: I64, site: I32, owner: npt.NDArray[np.integer], demand: I64, shares: I16
) -> None:
    """Add to load int64[S, 3] what `shares` of `demand` int64[G, 3] make at each entry's site.
    (Flat indices: adding at rows takes four times as long.)"""
    entry, klass = places(shares)
    amount = demand[owner[entry], klass] * shares[entry, klass]
    np.add.at(load.reshape(-1), site[entry].astype(np.int64) * CLASSES + klass, amount)


def places(values: npt.NDArray[np.generic]) -> tuple[I64, I64]:
    """(row, class) of what is not 0 in a matrix of three columns, in that order. (np.nonzero of a
    matrix takes five times as long.)"""
    flat = np.flatnonzero(values.reshape(-1) != 0)
    row = flat // CLASSES
    return row, flat - row * CLASSES


def demand_kbps(demand_bps: I64) -> I64:
    """Rounded up, so that a demand never vanishes. (Most groups have none, and dividing takes a
    while.)"""
    out: I64 = np.zeros_like(demand_bps)
    some = np.flatnonzero(demand_bps)
    out.reshape(-1)[some] = -(-demand_bps.reshape(-1)[some] // 1000)
    return out


def start(problem: Problem, home: I64) -> Ledger:
    """Everybody at the entry `home` int64[G, 3], which is `nearest(problem)`."""
    demand = demand_kbps(problem.demand_bps)
    shares = np.zeros((len(problem.site), CLASSES), np.int16)
    load = problem.other_load.copy()
    for klass in range(CLASSES):
        held = np.flatnonzero(home[:, klass] >= 0)
        entry, asked = home[held, klass], demand[held, klass]
        shares.reshape(-1)[entry * CLASSES + klass] = TOTAL
        some = np.flatnonzero(asked)
        where = problem.site[entry[some]].astype(np.int64) * CLASSES + klass
        np.add.at(load.reshape(-1), where, asked[some] * TOTAL)
    limit_site, limit_class = _limits(problem)
    return Ledger(
        offsets=problem.offsets,
        site=problem.site,
        cost=problem.cost,
        group=problem.group,
        owner=problem.owner,
        eligible=problem.eligible,
        demand=demand,
        shares=shares,
        load=load,
        limit_site=limit_site,
        limit_class=limit_class,
    )


def _limits(problem: Problem) -> tuple[I64, I64]:
    """Of each site int64[S] and of its classes int64[S, 3], in the unit of load."""
    site_bps, class_bps = (
        np.minimum(bps, _CAPACITY_MAX_BPS) for bps in (problem.site_bps, problem.class_bps)
    )
    limit_site = np.minimum(site_bps // 1000 * problem.target, problem.cap)
    return limit_site, class_bps // 1000 * problem.target


@dataclass(frozen=True, slots=True)
class _Asked:
    """All demand as rows of a transportation problem (transport.Rows): group and class of each. The
    number of an arc is its place in `shares`, flat."""

    problem: Problem
    group: I64
    klass: I64
    home: I64
    supply: I64
    room_class: I64
    room_site: I64

    @classmethod
    def of(cls, problem: Problem, ledger: Ledger, home: I64) -> "_Asked":
        """`home`: the entries `nearest(problem)`."""
        group, klass = places((home >= 0) & (ledger.demand > 0))
        other = problem.other_load
        return cls(
            problem,
            group,
            klass,
            home=problem.site[home[group, klass]].astype(np.int64) * CLASSES + klass,
            supply=ledger.demand[group, klass] * TOTAL,
            room_class=np.maximum(ledger.limit_class - other, 0).reshape(-1),
            room_site=np.maximum(ledger.limit_site - other.sum(axis=1), 0),
        )

    def some(self, rows: I64) -> tuple[Transport, I64]:
        problem, group, klass = self.problem, self.group[rows], self.klass[rows]
        first = problem.offsets[group]
        count = problem.offsets[group + 1] - first
        entry = ragged(first, count)
        row = np.repeat(np.arange(len(group)), count)
        node = problem.site[entry].astype(np.int64) * CLASSES + klass[row]
        eligible, resort = problem.eligible.reshape(-1), problem.resort.reshape(-1)
        able = np.flatnonzero(_able(node, row, len(group), eligible, resort))
        entry, row, node = entry[able], row[able], node[able]
        count = np.bincount(row, minlength=len(group))
        arcs = entry * CLASSES + klass[row]
        transport = Transport(
            offsets=np.concatenate([[0], np.cumsum(count)]),
            node=node,
            cost=problem.cost[entry].astype(np.int64),
            held=problem.held.reshape(-1)[arcs].astype(np.int64),
            key=problem.group[group],
            supply=self.supply[rows],
            room_class=self.room_class,
            room_site=self.room_site,
        )
        return transport, arcs


def _take(ledger: Ledger, best: Optimum) -> I64:
    """Put the optimum into the ledger. Returns its prices int64[S, 3]."""
    part, shares = best.part, shares_of(best)
    change = shares - ledger.shares.reshape(-1)[best.arcs]
    ledger.shares.reshape(-1)[best.arcs] = shares
    unit = np.repeat(part.supply // TOTAL, np.diff(part.offsets))
    np.add.at(ledger.load.reshape(-1), part.node, change * unit)
    price: I64 = np.where(best.prices.node < best.prices.none, best.prices.node, NO_ROOM)
    return price.reshape(-1, CLASSES)


def _moved(problem: Problem, ledger: Ledger, home: I64) -> tuple[Bools, Bools]:
    """Which sites gave demand away, and which took some."""
    spilled = np.zeros(len(problem.site_bps), np.bool_)
    taking = spilled.copy()
    group, klass = places((home >= 0) & (ledger.demand > 0))
    nearest_place = home[group, klass] * CLASSES + klass
    away = np.flatnonzero(ledger.shares.reshape(-1)[nearest_place] != TOTAL)
    group, klass, nearest_place = group[away], klass[away], nearest_place[away]
    spilled[problem.site[nearest_place // CLASSES]] = True
    first = problem.offsets[group]
    count = problem.offsets[group + 1] - first
    entry = ragged(first, count)
    place = entry * CLASSES + np.repeat(klass, count)
    takes = (ledger.shares.reshape(-1)[place] > 0) & (place != np.repeat(nearest_place, count))
    taking[problem.site[entry[takes]]] = True
    return spilled, taking
