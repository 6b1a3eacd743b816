"""How much of what would be best is done at once.

Idea: the best shares follow demand that is known to some per cent, and every viewer that moves
costs a connection. So what differs by little stays as it is, and of what was planned anew most is
done now and the rest when the next plan, five seconds later, still wants it. What has failed, or is
full, does not wait.
Rule, for each (group, class), its old shares against the solution's:
- a change of less than `min_shift` ten-thousandths is not made, unless an old share is with a site
  that is not eligible any more;
- of the others `step` ten-thousandths are made, rounded down for each share that falls; what is
  left stays where it was. All of it is made where an old share is with a site that is not eligible,
  or that the old shares would put above its target; where nothing was shared before, or nobody is
  there to be moved; where what stays would never be worth a change of its own; and where it would
  put a site further above target than the solution does (the load of the whole is looked at until
  none is: L8 holds as for the solution).
So under constant input it takes three plans to get there (L10).
Source: Taiji (SOSP 2019) moves 80 % of the way, and rejects shifts below 1 %.
Measured in closed loop (docs/adr/0037): 4 to 22 % fewer moves.
"""

import numpy as np

from pipeline.decide.assignment import (
    CLASSES,
    I64,
    TOTAL,
    Bools,
    Problem,
    above_target,
    demand_kbps,
)
from pipeline.decide.serving import I16
from pipeline.state.keyindex import distinct


def hold_back(load: I64, problem: Problem, new: I16, differs: I64, min_shift: int) -> Bools:
    """Put back in `new` what is not worth changing, and in `load` what comes of it; which of the
    (flat) places `differs` that were."""
    change = _Change(problem, new, differs)
    shift = change.shift()
    shift[change.which[(change.before > 0) & ~change.eligible]] = min_shift
    keep: Bools = (shift < min_shift)[change.which]
    then = np.where(keep, change.before, change.after)
    change.reload(load, then)
    change.put(new, then)
    return keep


def part_way(
    load: I64, problem: Problem, new: I16, differs: I64, min_shift: int, step: int
) -> None:
    """Leave in `new` `step` ten-thousandths of the way to it, at the (flat) places `differs`, where
    it need not be gone at once; and in `load` what comes of it."""
    if not len(differs) or step == TOTAL:
        return
    change = _Change(problem, new, differs)
    allowed = above_target(problem, load)
    held = load.copy()
    change.reload(held, change.before)
    strained = above_target(problem, held) > 0
    loses = change.after < change.before
    urgent = change.shift() * (TOTAL - step) < min_shift * TOTAL
    urgent[change.which[(change.before > 0) & (~change.eligible | strained[change.site])]] = True
    urgent |= change.sums(change.after - change.before) != 0
    urgent[change.which[change.kbps == 0]] = True
    there = np.where(loses, change.before - (change.before - change.after) * step // TOTAL, 0)
    while True:
        then = np.where(urgent[change.which], change.after, change.towards(there))
        tried = load.copy()
        change.reload(tried, then)
        over = above_target(problem, tried) > allowed
        late = distinct(change.which[loses & over[change.site] & (then != change.after)])
        if not len(late):
            break
        urgent[late] = True
    load[:] = tried
    change.put(new, then)


class _Change:
    """The flat places at which shares differ: before and after int64, site, which (group x class),
    kbps (what that wants); eligible bool."""

    def __init__(self, problem: Problem, new: I16, differs: I64) -> None:
        entry, klass = np.divmod(differs, CLASSES)
        owner = problem.owner[entry].astype(np.int64)
        self._differs = differs
        self.size = len(problem.group) * CLASSES
        self.before = problem.held.reshape(-1)[differs].astype(np.int64)
        self.after = new.reshape(-1)[differs].astype(np.int64)
        self.site = problem.site[entry].astype(np.int64)
        self.which = owner * CLASSES + klass
        self.eligible: Bools = problem.eligible[self.site, klass]
        self.kbps = demand_kbps(problem.demand_bps[owner, klass])
        self._place = self.site * CLASSES + klass

    def shift(self) -> I64:
        """int64[size]: by group and class, the greatest change of a share."""
        shift = np.zeros(self.size, np.int64)
        np.maximum.at(shift, self.which, np.abs(self.after - self.before))
        return shift

    def towards(self, there: I64) -> I64:
        """The shares where those that fall are `there` (elsewhere it does not count): what they
        give, divided over those that rise as the whole change is; what is left of that division,
        one each, goes to the first places. None rises beyond `after`."""
        moves = self.after - self.before
        falls = moves < 0
        given = self.sums(np.where(falls, self.before - there, 0))
        whole = np.maximum(self.sums(np.where(falls, -moves, 0)), 1)
        gain, rest = np.divmod(given[self.which] * np.maximum(moves, 0), whole[self.which])
        some = np.flatnonzero(rest)
        some = some[np.argsort(self.which[some], kind="stable")]
        which = self.which[some]
        nth = np.arange(len(some)) - np.searchsorted(which, which)
        left = given - self.sums(gain)
        gain[some[nth < left[which]]] += 1
        return np.where(falls, there, self.before + gain)

    def put(self, new: I16, then: I64) -> None:
        """The shares `then` in their places."""
        new.reshape(-1)[self._differs] = then

    def reload(self, load: I64, then: I64) -> None:
        """What `then` makes other than `after`, added to `load`."""
        np.add.at(load.reshape(-1), self._place, (then - self.after) * self.kbps)

    def sums(self, of: I64) -> I64:
        """int64[size]: by group and class."""
        return np.bincount(self.which, of, self.size).astype(np.int64)
