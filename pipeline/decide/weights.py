"""Weights inside a site: how its load is spread over unlike machines.

Idea: 10,000 seats are shared out over the appliances' usable capacities as a parliament's are over
votes, so that unlike machines fill evenly and the sum is exact.

Rule: Sainte-Laguë (Webster): the next seat goes to the highest capacity / (2 * seats + 1), ties to
the appliance id that sorts first. Every seat has one place in that total order and the first 10,000
are taken, so an appliance that leaves gives its seats to the next in the order: nobody else loses
one, and nothing but the lost share moves (L6). Balinski and Young, "Fair Representation" (1982):
only divisor methods are free of the Alabama paradox. Rounding capacity * 10,000 / sum is a valid
state of the same order, a few seats off; the rest are given or taken one by one, in exact integers.

Panic (Envoy, threshold 50 %): where fewer than `panic_below` of the appliances that did not withdraw
themselves are healthy, the evidence (silence, error rates) is more likely wrong than the machines:
all of them are weighted by inventory capacity. An appliance's own word (FAILED, DRAINING) is always
believed. Where everything has withdrawn, the last good weights stay (L7): the site gets no share then.

Rejected: largest remainder (the paradox: losing one appliance can lower another's weight); floats
(their ties flip); rewriting weights each second (utilisation is noisy: a site is weighed again when
a state changed or a usable capacity moved by more than `assignment.min_shift`, the 1 % below which
Taiji found shifts not worth making).
"""

import heapq
from collections.abc import Sequence

TOTAL = 10_000
# Two quotients c / (2s + 1) that differ do so by at least 1 / (2 * TOTAL + 1)**2, so that at this
# scale their floors differ as well, and the floors of equal ones are equal: an exact integer key.
_SCALE = (2 * TOTAL + 1) ** 2


def apportion(capacities: Sequence[int], total: int = TOTAL) -> list[int]:
    """`total` seats over non-negative integer `capacities` by Sainte-Laguë, ties to the lower index.

    All zero (or none at all) gives all zero; otherwise the seats sum to `total` (at most TOTAL).
    """
    votes = sum(capacities)
    if votes <= 0:
        return [0] * len(capacities)
    # Half rounds down, so that no tie is decided here.
    seats = [max(0, -((votes - 2 * total * c) // (2 * votes))) for c in capacities]
    missing = total - sum(seats)
    if missing > 0:
        heap = [(-(c * _SCALE // (2 * s + 1)), i) for i, (c, s) in enumerate(zip(capacities, seats, strict=True))]
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
