"""Shares of a region's served groups, kept up to date at the least cost and with the least
movement.

Rule: all groups that make load are solved again from scratch when the demand, a site's eligibility
or the configuration changed (`plan`, at a tick). Demand comes in buckets of some seconds; between
two of them only the groups that gained or lost prefixes are decided (`settle`), and on urgent news
only those that name a site whose eligibility changed (`react`), both against the load that the
others keep. (To solve ten thousand groups anew for each route that changes took most of a tick.)
What a prefix takes along when it comes or goes is counted anew with the next bucket.
Only `plan` looks for the optimum; `settle` and `react` spill over (pipeline/decide/greedy.py). The
optimum of a few groups against what the rest keeps is none of the whole: it cannot have the others
make room, the next plan decides anew in seconds, and to find it took half of a tick. What is said
of the optimum (`exact`, prices) is therefore what the last plan found.
A site that an operator takes out of service, or that comes back, gets a share of its load that
every plan takes on (pipeline/decide/admission.py).
Changes are paced (pacing.py): small ones are not made, planned ones in part, failures not at all.

A site is passed over where it ranks before one that has a share of the class and has none itself:
because it is not eligible, or on its way out of service, or full. Where no site has a share all are
passed over. What ranks behind the last share is not listed: nearer sites had room, `who --why`
needs no record for that; unless it ranks there because its route is damped or its path lossy."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.decide.admission import Admission, paced
from pipeline.decide.assignment import (
    CLASSES,
    I64,
    TOTAL,
    U64,
    Bools,
    Problem,
    Solution,
    above_target,
    add_load,
    demand_kbps,
    load_of,
    nearest,
    nearest_load,
    solve,
)
from pipeline.decide.eligibility import DRAINED, ELIGIBLE, Eligibility
from pipeline.decide.pacing import hold_back, part_way
from pipeline.decide.serving import I16, U8, Ranked, ServedGroups
from pipeline.state.keyindex import distinct
from pipeline.state.lpm import ragged

#: What `passed` says of an eligible site: 1 + index into wire.tables.PASSED_REASONS.
SITE_FULL, ROUTE_DAMPED, PATH_LOSS = 3, 5, 6
#: The same by why an entry stands last (rankings.py).
_LAST = np.array([0, ROUTE_DAMPED, PATH_LOSS], np.uint8)


@dataclass(slots=True)
class SiteLoad:
    """Per site: load int64[S, 3] projected (kbit/s x ten-thousandths), and what the last full
    solution did there: spilled, taking bool[S], overflow int64[S] (same unit as load), price
    int64[S, 3] (assignment.Solution). paced int64[S]: what is above target and no overflow, same
    unit. exact: whether the last full solution is the optimum."""

    load: I64
    spilled: Bools
    taking: Bools
    overflow: I64
    paced: I64
    price: I64
    exact: bool

    @classmethod
    def none(cls, sites: int) -> "SiteLoad":
        return cls(
            np.zeros((sites, CLASSES), np.int64),
            np.zeros(sites, np.bool_),
            np.zeros(sites, np.bool_),
            np.zeros(sites, np.int64),
            np.zeros(sites, np.int64),
            np.zeros((sites, CLASSES), np.int64),
            exact=True,
        )

    def longer(self, sites: int) -> "SiteLoad":
        """The same for at least this many sites."""
        rows = sites - len(self.load)
        if not rows:
            return self
        return SiteLoad(
            np.concatenate([self.load, np.zeros((rows, CLASSES), np.int64)]),
            np.concatenate([self.spilled, np.zeros(rows, np.bool_)]),
            np.concatenate([self.taking, np.zeros(rows, np.bool_)]),
            np.concatenate([self.overflow, np.zeros(rows, np.int64)]),
            np.concatenate([self.paced, np.zeros(rows, np.int64)]),
            np.concatenate([self.price, np.zeros((rows, CLASSES), np.int64)]),
            exact=self.exact,
        )


@dataclass(slots=True)
class RegionShares:
    """The served groups of one region, the load that their shares make, and what sites on their way
    out of service or back were admitted at the last plan."""

    groups: ServedGroups = field(default_factory=ServedGroups)
    sites: SiteLoad = field(default_factory=lambda: SiteLoad.none(0))
    admission: Admission = field(default_factory=lambda: Admission.none(0))

    def react(self, now: Eligibility, changed: Bools, target: int, min_shift: int) -> None:
        """Decide again for the groups that name a site marked in `changed`, and for no others."""
        slots = self.groups.naming(changed)
        self.settle(slots, self.groups.demand_bps[slots], now, target, min_shift)

    def settle(
        self, slots: I64, demand_bps: I64, now: Eligibility, target: int, min_shift: int
    ) -> None:
        """Decide again for the groups at these slots (living, distinct), whose demand is
        `demand_bps` int64[slots, 3] now, and for no others."""
        if not len(slots):
            return
        before = self.sites.longer(len(now.site_bps))
        part = _Part.of(self.groups, slots, now, target, self.admission.caps(now.admitted))
        others = before.load - load_of(part.problem, self.groups.shares[part.entries])
        self.groups.demand_bps[slots] = demand_bps
        part.problem.demand_bps[:] = demand_bps
        part.problem.other_load[:] = others
        self._rehome(part)
        found = self._decide(part, np.arange(len(slots)), now, min_shift, exactly=False)
        overflow = np.maximum(found.overflow - before.paced, 0)
        self._account(part.problem, found, overflow)
        self.sites.spilled |= before.spilled
        self.sites.taking |= before.taking
        self.sites.price, self.sites.exact = before.price, before.exact

    def change(self, born: Ranked, died: U64) -> None:
        """Add the groups of `born` and drop those of `died`, whose load goes with them."""
        gone = self.groups.slots(died)
        self._release(gone[gone >= 0])
        self.groups.change(born, died)

    def _release(self, slots: I64) -> None:
        """Take the load of these groups off the sites."""
        groups = self.groups
        slots = slots[groups.demand_bps[slots].any(axis=1)]
        entries, offsets = groups.entries(slots)
        owner = np.repeat(np.arange(len(slots)), np.diff(offsets))
        demand = demand_kbps(groups.demand_bps[slots])
        add_load(self.sites.load, groups.site[entries], owner, -demand, groups.shares[entries])

    def plan(
        self,
        now: Eligibility,
        changed: Bools,
        demand_bps: I64,
        target: int,
        min_shift: int,
        step: int,
        *,
        everything: bool = False,
    ) -> None:
        """Decide again for all groups, given demand_bps int64[G, 3]; `changed` bool[S] marks the
        sites whose eligibility is not what it was at the last call of any of these methods. Unless
        `everything` (target or min_shift are new), groups for which nothing differs and that make
        no load, now or before, are left out: for them the answer would be what it was."""
        groups = self.groups
        before, demand = groups.demand_bps, demand_bps.copy()
        demand[~groups.alive] = 0
        groups.demand_bps = demand
        asked = (groups.home[:, 0] & groups.home[:, 1] & groups.home[:, 2]) < 0  # homeless
        asked[groups.naming(changed)] = True
        fresh = np.flatnonzero(asked)
        caps = self.admission.caps(now.admitted)
        if len(fresh):
            self._rehome(_Part.of(groups, fresh, now, target, caps))
        stirred = np.ones(len(groups.alive), np.bool_)
        if not everything:
            load = demand | before
            stirred = (load[:, 0] | load[:, 1] | load[:, 2]) != 0
            stirred[fresh] = True
        chosen = np.flatnonzero(stirred)
        part = _Part.of(groups, chosen, now, target, caps)
        self._admit(part, now)
        numbers = np.searchsorted(chosen, fresh)
        found = self._decide(part, numbers, now, min_shift, step, exactly=True)
        self._account(part.problem, found, found.overflow)

    def _admit(self, part: "_Part", now: Eligibility) -> None:
        """Go on with what sites are admitted; `part` is of all groups that make load."""
        held = self.sites.longer(len(now.admitted)).load.sum(axis=1)
        natural = np.zeros_like(held)
        if (paced(now.admitted) | now.shared).any():
            natural = nearest_load(part.problem, self._first(part))
        self.admission = self.admission.planned(now.admitted, now.part, held, natural)
        part.problem.cap[:] = self.admission.cap

    def _first(self, part: "_Part") -> I64:
        """Nearest entries of a part, as remembered."""
        home = self.groups.home[part.slots]
        return np.where(home >= 0, part.problem.offsets[:-1, None] + home, -1)

    def _rehome(self, part: "_Part") -> None:
        first = nearest(part.problem)
        rank = np.where(first >= 0, first - part.problem.offsets[:-1, None], -1)
        self.groups.home[part.slots] = rank

    def _decide(
        self,
        part: "_Part",
        fresh: I64,
        now: Eligibility,
        min_shift: int,
        step: int = TOTAL,
        *,
        exactly: bool,
    ) -> Solution:
        """Solve the part; returns the solution with the load as paced. Only where a share differs,
        and for the groups `fresh` (by their number in the part), which have new sites or such as
        changed, it is asked who is passed over."""
        groups, problem = self.groups, part.problem
        guess = self.sites.longer(len(now.site_bps)).price
        solution = solve(problem, self._first(part), exactly=exactly, guess=guess)
        old, new = problem.held, solution.shares
        differs = np.flatnonzero(old.reshape(-1) != new.reshape(-1))
        differs = differs[~hold_back(solution.load, problem, new, differs, min_shift)]
        if exactly:
            part_way(solution.load, problem, new, differs, min_shift, step)
        entry, klass = np.divmod(differs, CLASSES)
        groups.shares[part.entries[entry], klass] = new[entry, klass]
        stirred = problem.owner[entry]
        last = groups.last[part.entries]
        asked = distinct(np.concatenate([stirred, fresh]))
        rows, passed = _passed_over(problem, new, last, now, asked)
        where = part.entries[rows]
        stale = (groups.passed[where] != passed).any(axis=1)
        groups.passed[where] = passed
        groups.dirty[part.slots[stirred]] = True
        groups.dirty[part.slots[problem.owner[rows[stale]]]] = True
        return solution

    def _account(self, problem: Problem, found: Solution, overflow: I64) -> None:
        """Take over what a solution comes to, with this overflow."""
        above = above_target(problem, found.load)
        self.sites = SiteLoad(
            found.load,
            found.spilled,
            found.taking,
            overflow,
            np.maximum(above - overflow, 0),
            found.price,
            exact=found.exact,
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """Some groups of a region as a problem; where they lie in the columns of the region."""

    slots: I64
    entries: I64
    problem: Problem

    @classmethod
    def of(
        cls, groups: ServedGroups, slots: I64, now: Eligibility, target: int, caps: I64
    ) -> "_Part":
        entries, offsets = groups.entries(slots)
        problem = Problem(
            offsets=offsets,
            owner=np.repeat(np.arange(len(slots), dtype=np.int32), np.diff(offsets)),
            site=groups.site[entries],
            cost=groups.cost[entries],
            group=groups.group[slots],
            demand_bps=groups.demand_bps.take(slots, axis=0),
            eligible=now.eligible,
            resort=now.resort,
            site_bps=now.site_bps,
            class_bps=now.class_bps,
            cap=caps,
            target=target,
            other_load=np.zeros((len(now.site_bps), CLASSES), np.int64),
            held=groups.shares.take(entries, axis=0),  # an index takes four times as long
        )
        return cls(slots, entries, problem)


def _passed_over(
    problem: Problem, shares: I16, last: U8, now: Eligibility, groups: npt.NDArray[np.integer]
) -> tuple[I64, U8]:
    """(entries of these groups, passed uint8[entries, 3]) of `shares`; `last` by entry."""
    first = problem.offsets[groups]
    count = problem.offsets[groups + 1] - first
    rows = ragged(first, count)
    start = np.cumsum(count) - count
    owner = np.repeat(np.arange(len(groups)), count)
    rank = np.arange(len(rows))
    passed = np.zeros((len(rows), CLASSES), np.uint8)
    for klass in range(CLASSES):
        share = shares[rows, klass]
        holding = np.flatnonzero(share)
        end = start + count  # behind the last share: of those without any, behind them all
        end[owner[holding]] = holding  # the last one is written last
        before = rank < end[owner]
        listed = np.flatnonzero((share == 0) & (before | (last[rows] > 0)))
        where = problem.site[rows[listed]]
        status = now.status[where, klass]
        full = np.where(now.admitted[where] < TOTAL, DRAINED, SITE_FULL)
        full = np.where(before[listed], full, _LAST[last[rows[listed]]])
        passed[listed, klass] = np.where(status == ELIGIBLE, full, status)
    return rows, passed
