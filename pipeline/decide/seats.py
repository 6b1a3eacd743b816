"""How 10,000 seats are shared out over capacities: the arithmetic of weights.

Rule: Sainte-Laguë (Webster): the next seat goes to the highest capacity / (2 * seats + 1), ties to
the lower index. Every seat has one place in that total order and the first 10,000 are taken, so who
leaves gives its seats to the next in the order: nobody else loses one, and nothing but the lost
share moves (L6). Balinski and Young, "Fair Representation" (1982): only divisor methods are free of
the Alabama paradox. Rounding capacity * 10,000 / sum is a valid state of the same order, a few
seats off; the rest are given or taken one by one.

Many sites are weighed at once in doubles, which may be wrong where two quotients are as good as
equal; and the seats that rounding left over go, or come from, one each. So each result is looked
at: where the last seat given stands before the next one by more than doubles can err, it is the
answer; else that site is done again in exact integers (`apportion`, the definition; equal machines
share a quotient, so that happens).
Rejected: largest remainder (the paradox: losing one appliance can lower another's weight); doubles
without the look (their ties flip).
"""

import heapq
from collections.abc import Sequence

import numpy as np

from pipeline.decide.assignment import I64
from pipeline.decide.lp import F64

TOTAL = 10_000
# Two quotients c / (2s + 1) that differ do so by at least 1 / (2 * TOTAL + 1)**2, so that at this
# scale their floors differ as well, and the floors of equal ones are equal: an exact integer key.
_SCALE = (2 * TOTAL + 1) ** 2
#: What a capacity as a double and a division err by is below 2**-51 of a quotient.
_SURE = 1.0 + 2.0**-50


def apportion(capacities: Sequence[int], total: int = TOTAL) -> list[int]:
    """`total` seats over non-negative integer `capacities` by Sainte-Laguë, ties to the lower
    index.

    All zero (or none at all) gives all zero; otherwise the seats sum to `total` (at most TOTAL).
    """
    votes = sum(capacities)
    if votes <= 0:
        return [0] * len(capacities)
    # Half rounds down, so that no tie is decided here.
    seats = [max(0, -((votes - 2 * total * c) // (2 * votes))) for c in capacities]
    missing = total - sum(seats)
    if missing > 0:
        heap = [
            (-(c * _SCALE // (2 * s + 1)), i)
            for i, (c, s) in enumerate(zip(capacities, seats, strict=True))
        ]
        heapq.heapify(heap)
        for _ in range(missing):
            index = heap[0][1]
            seats[index] += 1
            key = -(capacities[index] * _SCALE // (2 * seats[index] + 1))
            heapq.heapreplace(heap, (key, index))
    elif missing < 0:
        heap = [
            (c * _SCALE // (2 * s - 1), -i)
            for i, (c, s) in enumerate(zip(capacities, seats, strict=True))
            if s
        ]
        heapq.heapify(heap)
        for _ in range(-missing):
            index = -heap[0][1]
            seats[index] -= 1
            if seats[index]:
                key = capacities[index] * _SCALE // (2 * seats[index] - 1)
                heapq.heapreplace(heap, (key, -index))
            else:
                heapq.heappop(heap)
    return seats


def apportion_each(capacities: I64, starts: I64) -> I64:
    """`apportion` of each stretch of `capacities` (none negative, and not all of a stretch 0):
    int64 seats. Stretches begin at `starts` (ascending, the first at 0)."""
    size = np.diff(starts, append=len(capacities))
    owner = np.repeat(np.arange(len(starts)), size)
    votes = capacities.astype(np.float64)
    quota = TOTAL / np.add.reduceat(votes, starts)
    seats = np.floor(votes * quota[owner] + 0.5)
    missing = TOTAL - np.add.reduceat(seats, starts)
    rank = np.arange(len(votes)) - starts[owner]
    lacking, beyond = (rank < part[owner] for part in (missing, -missing))
    if lacking.any():
        seats[np.lexsort((-votes / (2.0 * seats + 1.0), owner))[lacking]] += 1.0
    if beyond.any():
        seats[np.lexsort((_last(votes, seats), owner))[beyond]] -= 1.0
    coming = np.maximum.reduceat(votes / (2.0 * seats + 1.0), starts)
    sure = np.minimum.reduceat(_last(votes, seats), starts) > coming * _SURE
    found = seats.astype(np.int64)
    for at in np.flatnonzero(~sure).tolist():
        stretch = slice(int(starts[at]), int(starts[at] + size[at]))
        found[stretch] = apportion(capacities[stretch].tolist())
    return found


def _last(votes: F64, seats: F64) -> F64:
    """What the last seat of each was given for; infinite without one."""
    last: F64 = np.where(seats > 0, votes / np.maximum(2.0 * seats - 1.0, 1.0), np.inf)
    return last
