"""Spill-over: what is above a site's limit goes to the next site with room, as cheaply as one look
at a time finds.

Its jobs: the last ten-thousandths after the exact solution, which are too small for a linear
programme; the whole answer where the solver's iterations did not suffice; and the few groups that
are decided between two exact solutions of all (pipeline/decide/shares.py).

Rule: class by class (VOD moves first, GAME, the most sensitive, last), in rounds, all overloaded
sites at once. In a round every share at an overloaded site looks at its first later-ranked eligible
site with room for at least one unit (a ten-thousandth of its demand); a site gives away the
cheapest of these until it is relieved, a destination accepts the cheapest until it is full, the one
at the margin in part; the rest looks again. Cheapest: least increase of proximity cost, then of
rank, then the group id, so that the answer depends on the input alone. No destination is brought
above its limit, so every round lessens the excess and the rounds end.

Source: Edge Fabric (SIGCOMM 2017) detours in a fixed order at about 95 %. Not found: chains (A to
B, only because B could move on to C).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLASSES = 3

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
I16 = npt.NDArray[np.int16]
U64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Ledger:
    """Who is where. Columns as in assignment.Problem and Solution; demand int64[G, 3] in kbit/s;
    limit_site int64[S] and limit_class int64[S, 3] in the unit of load, kbit/s x
    ten-thousandths."""

    offsets: I64
    site: I32
    cost: I32
    group: U64
    owner: I32
    eligible: Bools
    demand: I64
    shares: I16
    load: I64
    limit_site: I64
    limit_class: I64

    def overload(self) -> I64:
        """Load above the limit of each site, over all classes or of the worst one."""
        return overload(self.load, self.limit_site, self.limit_class)

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
        return np.where(self.eligible[:, klass], np.maximum(free, 0), 0)


def overload(load: I64, limit_site: I64, limit_class: I64) -> I64:
    """int64[S]: Ledger.overload of this load."""
    over = np.maximum(load.sum(axis=1) - limit_site, 0)
    worst: I64 = np.maximum(over, (load - limit_class).max(axis=1))
    return worst


def relieve(ledger: Ledger) -> None:
    """Move demand off the overloaded sites until nothing more can move."""
    while ledger.overload().any():
        moved = [_relieve(ledger, klass) for klass in range(CLASSES)]
        if not any(moved):
            break


def _relieve(ledger: Ledger, klass: int) -> bool:
    any_moved = False
    overloaded = ledger.excess(klass) > 0
    source = np.flatnonzero(overloaded[ledger.site] & (ledger.shares[:, klass] > 0))
    source = source[ledger.demand[ledger.owner[source], klass] > 0]
    target = source + 1
    while len(source):
        source, target = _look(ledger, klass, source, target)
        excess = ledger.excess(klass)
        live = excess[ledger.site[source]] > 0
        source, target = source[live], target[live]
        if not len(source):
            break
        _round(ledger, klass, source, target, excess)
        any_moved = True
        left = ledger.shares[source, klass] > 0
        source, target = source[left], target[left]
    return any_moved


def _look(ledger: Ledger, klass: int, source: I64, target: I64) -> tuple[I64, I64]:
    """Advance each share's `target` entry to the next site with room for one unit; drop those that
    have none left. Room only shrinks while a class is relieved, so nobody need look back."""
    room = ledger.room(klass)
    group = ledger.owner[source]
    end = ledger.offsets[group + 1]
    demand = ledger.demand[group, klass]
    while True:
        inside = target < end
        source, target, end, demand = source[inside], target[inside], end[inside], demand[inside]
        full = room[ledger.site[target]] < demand
        if not full.any():
            return source, target
        target = target + full


def _round(ledger: Ledger, klass: int, source: I64, target: I64, excess: I64) -> None:
    """One round of giving and accepting; something always moves."""
    start, end = ledger.site[source], ledger.site[target]
    group = ledger.owner[source]
    demand = ledger.demand[group, klass]
    cost = ledger.cost[target] - ledger.cost[source]
    cheap = np.lexsort((ledger.group[group], target - source, cost))

    order = cheap[np.argsort(start[cheap], kind="stable")]
    offered = np.zeros(len(source), np.int64)
    held = ledger.shares[source, klass].astype(np.int64)
    wanted = excess[start[order]] - _before(start[order], (held * demand)[order])
    offered[order] = np.clip(-(-wanted // demand[order]), 0, held[order])

    order = cheap[np.argsort(end[cheap], kind="stable")]
    order = order[offered[order] > 0]
    free = ledger.room(klass)[end[order]]
    free -= _before(end[order], (offered * demand)[order])
    moved = np.zeros(len(source), np.int64)
    moved[order] = np.clip(free // demand[order], 0, offered[order])

    done = np.flatnonzero(moved)
    amount = moved[done] * demand[done]
    np.subtract.at(ledger.shares[:, klass], source[done], moved[done].astype(np.int16))
    np.add.at(ledger.shares[:, klass], target[done], moved[done].astype(np.int16))
    np.subtract.at(ledger.load[:, klass], start[done], amount)
    np.add.at(ledger.load[:, klass], end[done], amount)


def _before(key: I32, amount: I64) -> I64:
    """For rows sorted by `key`: the sum of `amount` over the earlier rows of the same key."""
    running = np.cumsum(amount) - amount
    head = np.ones(len(key), bool)
    np.not_equal(key[1:], key[:-1], out=head[1:])
    return running - np.repeat(running[head], np.diff(np.append(np.flatnonzero(head), len(key))))
