"""Shares of each group's demand per site: nearest first, spilling over where a site would overload.

Idea: everybody is served by the nearest site that can serve the class. Where the demand projected
for a site exceeds target x capacity, the demand that is cheapest to move goes to the next site of
its ranking that has room, and what finds no room anywhere stays where it is nearest: that overflow
is reported, never hidden.

Rule: class by class (VOD moves first, GAME, the most sensitive, last), in rounds, all overloaded
sites at once. In a round every movable (group, class) looks at its first later-ranked eligible site
with room for at least one unit (a ten-thousandth of its demand); a site gives away the cheapest of
these until it is relieved, a destination accepts the cheapest until it is full, the one at the
margin in part; the rest looks again. Cheapest: least increase of proximity cost, then of rank, then
the group id, so that the answer depends on the input alone. No destination is brought above target,
so every round lessens the excess and the rounds end.

Source: Edge Fabric (SIGCOMM 2017) projects load without its own overrides, recomputes from scratch
and detours in a fixed order at about 95 %; Espresso (SIGCOMM 2017) kept a greedy because an LP was
only 3 to 5 % better. The projection is demand x shares, never measured load: the result cannot
chase its own effect. Rejected: moving a part of everybody (each overload would touch every group).
Not found: chains (A to B, only because B could move on to C); `solve` is the door for the exact
solver.

All arithmetic is on integers: demand in kbit/s, load in kbit/s x ten-thousandths, whose sums stay
below 2**63 up to 9e14 kbit/s and do not depend on order.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

TOTAL = 10_000
CLASSES = 3

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
I16 = npt.NDArray[np.int16]
U64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

_CAPACITY_MAX_BPS = 9 * 10**17


@dataclass(frozen=True, slots=True)
class Problem:
    """G groups with E entries (candidate sites in rank order), S sites, classes VOD, LIVE, GAME.

    offsets int64[G + 1]: group g has the entries offsets[g] to offsets[g + 1], at least one; owner
    int32[E]: the group of each entry; site int32[E]; cost int32[E]: proximity cost, not decreasing
    within a group; group uint64[G]: stable ids, for ties; demand_bps int64[G, 3]; eligible bool[S,
    3]; site_bps int64[S] and class_bps int64[S, 3]: capacity for all and per class; target in
    ten-thousandths; other_load int64[S, 3]: load that is not to be moved (unit of Solution)."""

    offsets: I64
    owner: I32
    site: I32
    cost: I32
    group: U64
    demand_bps: I64
    eligible: Bools
    site_bps: I64
    class_bps: I64
    target: int
    other_load: I64


@dataclass(frozen=True, slots=True)
class Solution:
    """shares int16[E, 3] in ten-thousandths: each group and class sums to 10,000, or to 0 where
    none of its sites is eligible. load int64[S, 3] in kbit/s x ten-thousandths, `other_load`
    included. spilled bool[S]: gave demand away; taking bool[S]: took some; overflow int64[S]: load
    above target for which no room was found, same unit."""

    shares: I16
    load: I64
    spilled: Bools
    taking: Bools
    overflow: I64


def nearest(problem: Problem) -> I64:
    """First eligible entry of each group and class: int64[G, 3], -1 where there is none."""
    first: I64 = np.full((len(problem.group), CLASSES), -1, np.int64)
    for klass in range(CLASSES):
        able_site: Bools = problem.eligible[:, klass]
        able = np.flatnonzero(able_site[problem.site])
        owner = problem.owner[able]
        head = np.ones(len(able), bool)
        np.not_equal(owner[1:], owner[:-1], out=head[1:])
        first[owner[head], klass] = able[head]
    return first


def solve(problem: Problem, first: I64 | None = None) -> Solution:
    """Nearest first, then spill-over. `first` is `nearest(problem)` where the caller still has
    it."""
    work = _Work(problem, nearest(problem) if first is None else first)
    while work.overload().any():
        moved = [_relieve(work, klass) for klass in range(CLASSES)]
        if not any(moved):
            break
    return Solution(work.shares, work.load, work.spilled, work.taking, work.overload())


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
    entry, klass = np.nonzero(shares)
    amount = demand[owner[entry], klass] * shares[entry, klass]
    np.add.at(load.reshape(-1), site[entry].astype(np.int64) * CLASSES + klass, amount)


def demand_kbps(demand_bps: I64) -> I64:
    """Rounded up, so that a demand never vanishes. (Most groups have none, and dividing takes a
    while.)"""
    out: I64 = np.zeros_like(demand_bps)
    some = np.flatnonzero(demand_bps)
    out.reshape(-1)[some] = -(-demand_bps.reshape(-1)[some] // 1000)
    return out


@dataclass(slots=True)
class _Work:
    problem: Problem
    first: I64
    demand: I64 = field(init=False)
    shares: I16 = field(init=False)
    load: I64 = field(init=False)
    limit_site: I64 = field(init=False)
    limit_class: I64 = field(init=False)
    spilled: Bools = field(init=False)
    taking: Bools = field(init=False)

    def __post_init__(self) -> None:
        problem = self.problem
        sites = len(problem.site_bps)
        self.demand = demand_kbps(problem.demand_bps)
        self.shares = np.zeros((len(problem.site), CLASSES), np.int16)
        self.load = problem.other_load.copy()
        self.limit_site = np.minimum(problem.site_bps, _CAPACITY_MAX_BPS) // 1000 * problem.target
        self.limit_class = np.minimum(problem.class_bps, _CAPACITY_MAX_BPS) // 1000 * problem.target
        self.spilled, self.taking = np.zeros(sites, bool), np.zeros(sites, bool)
        shares, load = self.shares.reshape(-1), self.load.reshape(-1)
        for klass in range(CLASSES):
            held = np.flatnonzero(self.first[:, klass] >= 0)
            entry, demand = self.first[held, klass], self.demand[held, klass]
            shares[entry * CLASSES + klass] = TOTAL
            asked = np.flatnonzero(demand)
            where = problem.site[entry[asked]].astype(np.int64) * CLASSES + klass
            np.add.at(load, where, demand[asked] * TOTAL)

    def overload(self) -> I64:
        """Load above target of each site, over all classes or of the worst one."""
        over = np.maximum(self.load.sum(axis=1) - self.limit_site, 0)
        worst: I64 = np.maximum(over, (self.load - self.limit_class).max(axis=1))
        return worst

    def excess(self, klass: int) -> I64:
        """What each site must give away of this class, as far as it has any."""
        over = np.maximum(
            self.load[:, klass] - self.limit_class[:, klass],
            self.load.sum(axis=1) - self.limit_site,
        )
        excess: I64 = np.clip(over, 0, self.load[:, klass])
        return excess

    def room(self, klass: int) -> I64:
        """What each site may still take of this class."""
        free = np.minimum(
            self.limit_class[:, klass] - self.load[:, klass],
            self.limit_site - self.load.sum(axis=1),
        )
        return np.where(self.problem.eligible[:, klass], np.maximum(free, 0), 0)


def _relieve(work: _Work, klass: int) -> bool:
    """Move demand of one class off the overloaded sites until nothing more can move; whether any
    did."""
    problem, any_moved = work.problem, False
    home = work.first[:, klass]
    overloaded = work.excess(klass) > 0
    group = np.flatnonzero((home >= 0) & (work.demand[:, klass] > 0))
    group = group[overloaded[problem.site[home[group]]]]
    group = group[work.shares[home[group], klass] > 0]
    target = home[group] + 1
    while len(group):
        group, target = _look(work, klass, group, target)
        excess = work.excess(klass)
        live = excess[problem.site[home[group]]] > 0
        group, target = group[live], target[live]
        if not len(group):
            break
        _round(work, klass, group, target, excess)
        any_moved = True
        left = work.shares[home[group], klass] > 0
        group, target = group[left], target[left]
    return any_moved


def _look(work: _Work, klass: int, group: I64, target: I64) -> tuple[I64, I64]:
    """Advance each group's `target` entry to the next site with room for one unit; drop those that
    have none left. Room only shrinks while a class is relieved, so nobody need look back."""
    problem, room = work.problem, work.room(klass)
    end = problem.offsets[group + 1]
    demand = work.demand[group, klass]
    while True:
        inside = target < end
        group, target, end, demand = group[inside], target[inside], end[inside], demand[inside]
        full = room[problem.site[target]] < demand
        if not full.any():
            return group, target
        target = target + full


def _round(work: _Work, klass: int, group: I64, target: I64, excess: I64) -> None:
    """One round of giving and accepting; something always moves."""
    problem = work.problem
    home = work.first[group, klass]
    source, destination = problem.site[home], problem.site[target]
    demand = work.demand[group, klass]
    cost = problem.cost[target] - problem.cost[home]
    rank = target - home
    cheap = np.lexsort((problem.group[group], rank, cost))

    order = cheap[np.argsort(source[cheap], kind="stable")]
    offered = np.zeros(len(group), np.int64)
    held = work.shares[home, klass].astype(np.int64)
    wanted = excess[source[order]] - _before(source[order], (held * demand)[order])
    offered[order] = np.clip(-(-wanted // demand[order]), 0, held[order])

    order = cheap[np.argsort(destination[cheap], kind="stable")]
    order = order[offered[order] > 0]
    free = work.room(klass)[destination[order]]
    free -= _before(destination[order], (offered * demand)[order])
    moved = np.zeros(len(group), np.int64)
    moved[order] = np.clip(free // demand[order], 0, offered[order])

    done = np.flatnonzero(moved)
    amount = moved[done] * demand[done]
    work.shares[home[done], klass] -= moved[done].astype(np.int16)
    work.shares[target[done], klass] += moved[done].astype(np.int16)
    np.subtract.at(work.load[:, klass], source[done], amount)
    np.add.at(work.load[:, klass], destination[done], amount)
    work.spilled[source[done]] = True
    work.taking[destination[done]] = True


def _before(key: I32, amount: I64) -> I64:
    """For rows sorted by `key`: the sum of `amount` over the earlier rows of the same key."""
    running = np.cumsum(amount) - amount
    head = np.ones(len(key), bool)
    np.not_equal(key[1:], key[:-1], out=head[1:])
    return running - np.repeat(running[head], np.diff(np.append(np.flatnonzero(head), len(key))))
