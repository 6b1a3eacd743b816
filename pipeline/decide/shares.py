"""Shares of a region's served groups, kept up to date at the least cost and with the least
movement.

Rule: all groups that make load are solved again from scratch when the demand, a site's eligibility
or the configuration changed (`plan`, at a tick). Demand comes in buckets of some seconds; between
two of them only the groups that gained or lost prefixes are decided (`settle`), and on urgent news
only those that name a site whose eligibility changed (`react`), both against the load that the
others keep. (To solve ten thousand groups anew for each route that changes took most of a tick.)
What a prefix takes along when it comes or goes is counted anew with the next bucket.
Pacing: a change of a (group, class) of less than `min_shift` ten-thousandths is not worth making
(Taiji: 1 %) and the old shares stay, unless one of them is with a site that is not eligible any
more: failures are not paced.

A site is passed over where it ranks before one that has a share of the class and has none itself:
because it is not eligible, or because it is full. Where no site has a share all are passed over.
What ranks behind the last share is not listed: nearer sites had room, `who --why` needs no record
for that."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.decide.assignment import (
    CLASSES,
    I64,
    U64,
    Bools,
    Problem,
    add_load,
    demand_kbps,
    load_of,
    nearest,
    solve,
)
from pipeline.decide.eligibility import ELIGIBLE, Eligibility
from pipeline.decide.serving import I16, U8, Ranked, ServedGroups
from pipeline.state.lpm import ragged

#: What `passed` says of an eligible site: 1 + index into wire.tables.PASSED_REASONS.
SITE_FULL = 3


@dataclass(slots=True)
class SiteLoad:
    """Per site: load int64[S, 3] projected (kbit/s x ten-thousandths), and what the last full
    solution did there: spilled, taking bool[S], overflow int64[S] (same unit as load)."""

    load: I64
    spilled: Bools
    taking: Bools
    overflow: I64

    @classmethod
    def none(cls, sites: int) -> "SiteLoad":
        return cls(
            np.zeros((sites, CLASSES), np.int64),
            np.zeros(sites, np.bool_),
            np.zeros(sites, np.bool_),
            np.zeros(sites, np.int64),
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
        )


@dataclass(slots=True)
class RegionShares:
    """The served groups of one region and the load that their shares make."""

    groups: ServedGroups = field(default_factory=ServedGroups)
    sites: SiteLoad = field(default_factory=lambda: SiteLoad.none(0))

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
        part = _Part.of(self.groups, slots, now, target)
        others = before.load - load_of(part.problem, self.groups.shares[part.entries])
        self.groups.demand_bps[slots] = demand_bps
        part.problem.demand_bps[:] = demand_bps
        part.problem.other_load[:] = others
        self._rehome(part)
        self._decide(part, now, min_shift)
        self.sites.spilled |= before.spilled
        self.sites.taking |= before.taking

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
        *,
        everything: bool = False,
    ) -> None:
        """Decide again for all groups, given demand_bps int64[G, 3]; `changed` bool[S] marks the
        sites whose eligibility is not what it was at the last call of either method. Unless
        `everything` (target or min_shift are new), groups for which nothing differs and that make
        no load, now or before, are left out: for them the answer would be what it was."""
        groups = self.groups
        before, demand = groups.demand_bps, np.where(groups.alive[:, None], demand_bps, 0)
        groups.demand_bps = demand
        homeless = (groups.home[:, 0] & groups.home[:, 1] & groups.home[:, 2]) < 0
        fresh = np.union1d(groups.naming(changed), np.flatnonzero(homeless))
        if len(fresh):
            self._rehome(_Part.of(groups, fresh, now, target))
        chosen: I64 | None = None
        if not everything:
            load = demand | before
            stirred = (load[:, 0] | load[:, 1] | load[:, 2]) != 0
            stirred[fresh] = True
            chosen = np.flatnonzero(stirred)
        self._decide(_Part.of(groups, chosen, now, target), now, min_shift)

    def _rehome(self, part: "_Part") -> None:
        first = nearest(part.problem)
        rank = np.where(first >= 0, first - part.problem.offsets[:-1, None], -1)
        self.groups.home[part.slots] = rank

    def _decide(self, part: "_Part", now: Eligibility, min_shift: int) -> None:
        groups, problem = self.groups, part.problem
        home = groups.home[part.slots]
        solution = solve(problem, np.where(home >= 0, problem.offsets[:-1, None] + home, -1))
        old, new = groups.shares[part.entries], solution.shares
        paced = _pace(problem, old, new, min_shift)
        passed = _passed_over(problem, new, now)
        differs = np.flatnonzero((new != old) | (passed != groups.passed[part.entries]))
        groups.dirty[part.slot_of(problem.owner[differs // CLASSES])] = True
        groups.shares[part.entries], groups.passed[part.entries] = new, passed
        load = load_of(problem, new) if paced else solution.load
        self.sites = SiteLoad(load, solution.spilled, solution.taking, solution.overflow)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some groups of a region, or all, as a problem; where they lie in the columns of the
    region."""

    slots: I64 | slice
    entries: I64 | slice
    problem: Problem

    @classmethod
    def of(cls, groups: ServedGroups, chosen: I64 | None, now: Eligibility, target: int) -> "_Part":
        slots: I64 | slice = slice(None)
        entries: I64 | slice = slice(None)
        offsets, owner = groups.offsets, groups.owner
        if chosen is not None:
            slots = chosen
            entries, offsets = groups.entries(chosen)
            owner = np.repeat(np.arange(len(chosen), dtype=np.int32), np.diff(offsets))
        problem = Problem(
            offsets=offsets,
            owner=owner,
            site=groups.site[entries],
            cost=groups.cost[entries],
            group=groups.group[slots],
            demand_bps=groups.demand_bps[slots],
            eligible=now.eligible,
            site_bps=now.site_bps,
            class_bps=now.class_bps,
            target=target,
            other_load=np.zeros((len(now.site_bps), CLASSES), np.int64),
        )
        return cls(slots, entries, problem)

    def slot_of(self, owner: npt.NDArray[np.int32]) -> npt.NDArray[np.integer]:
        """The region's slots of groups given by their number in this part."""
        return owner if isinstance(self.slots, slice) else self.slots[owner]


def _pace(problem: Problem, old: I16, new: I16, min_shift: int) -> bool:
    """Put back in `new` what is not worth changing; whether anything was."""
    before, after = old.reshape(-1), new.reshape(-1)
    differs = np.flatnonzero(before != after)
    entry, klass = np.divmod(differs, CLASSES)
    _, which = np.unique(
        problem.owner[entry].astype(np.int64) * CLASSES + klass, return_inverse=True
    )
    shift = np.zeros(int(which.max(initial=-1)) + 1, np.int64)
    np.maximum.at(shift, which, np.abs(after[differs].astype(np.int64) - before[differs]))
    lost = (before[differs] > 0) & ~problem.eligible[problem.site[entry], klass]
    shift[which[lost]] = min_shift
    keep = differs[(shift < min_shift)[which]]
    after[keep] = before[keep]
    return bool(len(keep))


def _passed_over(problem: Problem, shares: I16, now: Eligibility) -> U8:
    """passed uint8[E, 3] of `shares`."""
    passed = np.zeros(shares.shape, np.uint8)
    start = problem.offsets[:-1]
    for klass in range(CLASSES):
        holding = np.flatnonzero(shares[:, klass])
        owner = problem.owner[holding]
        last = np.ones(len(owner), np.bool_)
        np.not_equal(owner[1:], owner[:-1], out=last[:-1])
        end = problem.offsets[1:].copy()
        end[owner[last]] = holding[last]
        some = np.flatnonzero(end > start)
        entries = ragged(start[some], (end - start)[some])
        entries = entries[shares[entries, klass] == 0]
        status = now.status[problem.site[entries], klass]
        passed[entries, klass] = np.where(status == ELIGIBLE, SITE_FULL, status)
    return passed
