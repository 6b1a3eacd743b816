"""Weights inside a site: how its load is spread over unlike machines.

Idea: 10,000 seats are shared out over the appliances' usable capacities, as measured, as a
parliament's are over votes, so that unlike machines fill evenly and the sum is exact. Until their
loads are equal, capacities lean (balance.py).

Rule: Sainte-Laguë (Webster): the next seat goes to the highest capacity / (2 * seats + 1), ties to
the appliance id that sorts first. Every seat has one place in that total order and the first 10,000
are taken, so an appliance that leaves gives its seats to the next in the order: nobody else loses
one, and nothing but the lost share moves (L6). Balinski and Young, "Fair Representation" (1982):
only divisor methods are free of the Alabama paradox. Rounding capacity * 10,000 / sum is a valid
state of the same order, a few seats off; the rest are given or taken one by one, in exact integers.

Panic (Envoy, threshold 50 %): where fewer than `panic_below` of the appliances that did not
withdraw themselves are healthy, the evidence (silence, error rates) is more likely wrong than the
machines: all of them are weighted by inventory capacity. An appliance's own word (FAILED, DRAINING)
is always believed. Where everything has withdrawn, the last good weights stay (L7): the site gets
no share then.

Rejected: largest remainder (the paradox: losing one appliance can lower another's weight); floats
(their ties flip); rewriting weights each second (utilisation is noisy: a site is weighed again when
a state changed or a usable capacity moved by more than `assignment.min_shift`, the 1 % below which
Taiji found shifts not worth making).
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from pipeline.decide.assignment import I32, I64, Bools
from pipeline.decide.balance import FULL, TURNS, leans
from pipeline.state.codec import Packed, pack, unpack
from pipeline.state.keyindex import distinct

TOTAL = 10_000
# Two quotients c / (2s + 1) that differ do so by at least 1 / (2 * TOTAL + 1)**2, so that at this
# scale their floors differ as well, and the floors of equal ones are equal: an exact integer key.
_SCALE = (2 * TOTAL + 1) ** 2


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


class Spread(StrEnum):
    """What the weights of a site rest on."""

    BY_HEALTH = "BY_HEALTH"
    PANIC = "PANIC"  # inventory capacity: the evidence of health is not believed
    LAST_GOOD = "LAST_GOOD"  # nothing is usable: as they were


@dataclass(frozen=True, slots=True)
class Members:
    """Columns of all N appliances by id: names; site int32[N], -1 for those that do not live;
    capacity_bps (inventory) and usable_bps int64[N]; healthy bool[N]: in a state that takes load;
    withdrawn bool[N]: out by its own report; load int64[N]: of its bottleneck, in ten-thousandths,
    -1 where it is not to be compared; mark int64[N]: changes when state or reason does."""

    names: Sequence[str]
    site: I32
    capacity_bps: I64
    usable_bps: I64
    healthy: Bools
    withdrawn: Bools
    load: I64
    mark: I64


@dataclass(frozen=True, slots=True)
class Weighed:
    """The weights of one site. members: appliance ids in the order of their names; healthy,
    counted: how many of those that did not withdraw are healthy."""

    site: int
    members: tuple[int, ...]
    weights: tuple[int, ...]
    spread: Spread
    healthy: int
    counted: int


class Weigher:
    """Remembers what each site was last weighed by, so that only what moved is weighed again."""

    def __init__(self) -> None:
        self._version = -1
        self._by_site: dict[int, npt.NDArray[np.int64]] = {}
        self._weight: I64 = np.empty(0, np.int64)
        self._usable: I64 = np.empty(0, np.int64)
        self._mark: I64 = np.empty(0, np.int64)
        self._lean: I64 = np.empty(0, np.int64)

    def to_bytes(self) -> Packed:
        """All of it for a snapshot; nothing is left to be made again."""
        sites = sorted(self._by_site)
        members = [self._by_site[site] for site in sites]
        return pack(
            "weigher",
            {
                "version": self._version,
                "site": np.array(sites, np.int64),
                "count": np.array([len(ids) for ids in members], np.int64),
                "member": np.concatenate([np.empty(0, np.int64), *members]),
                "weight": self._weight,
                "usable": self._usable,
                "mark": self._mark,
                "lean": self._lean,
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Weigher":
        """The inverse of `to_bytes`."""
        weigher, fields = cls(), unpack("weigher", data)
        weigher._version, weigher._weight = fields["version"], fields["weight"]
        weigher._usable, weigher._mark = fields["usable"], fields["mark"]
        weigher._lean = fields["lean"]
        ends = np.cumsum(fields["count"])
        members = np.split(fields["member"], ends[:-1]) if len(ends) else []
        weigher._by_site = dict(zip(fields["site"].tolist(), members, strict=True))
        return weigher

    def sites(self) -> set[int]:
        """The sites that have appliances."""
        return set(self._by_site)

    def weigh(
        self,
        asked: Members,
        version: int,
        min_shift: int,
        panic_below: float,
        *,
        turn: int | None = None,
    ) -> list[Weighed]:
        """New weights of the sites that need them, by site id; `version` is the inventory's, whose
        change weighs every site again. Loads that differ are looked at where it is a site's `turn`,
        any number that goes on by one from tick to tick."""
        if version != self._version or len(asked.names) != len(self._weight):
            self._version = version
            self._regroup(asked)
            stirred = np.array(sorted(self._by_site), np.int64)
        else:
            moved = np.abs(asked.usable_bps - self._usable)
            shifted = moved > self._usable // TOTAL * min_shift
            placed = asked.site >= 0
            marked = distinct(asked.site[(asked.mark != self._mark) & placed])
            if turn is not None:
                shifted |= self._balance(asked, marked, turn)
            stirred = distinct(np.concatenate((marked, asked.site[shifted & placed])))
        return [self._weigh(asked, site, panic_below) for site in stirred.tolist()]

    def _balance(self, asked: Members, marked: I32, turn: int) -> Bools:
        """Take over what appliances lean by now at the sites whose turn it is; whose changed. Not
        where a state has just changed: of who fails only its own share moves in that cut (L6)."""
        lean = leans(asked.site, asked.usable_bps, asked.load, self._weight, self._lean)
        stirred = np.zeros(int(asked.site.max(initial=-1)) + 2, np.bool_)  # one more for site -1
        stirred[marked] = True
        changed: Bools = (lean != self._lean) & ~stirred[asked.site]
        changed &= asked.site % TURNS == turn % TURNS
        self._lean[changed] = lean[changed]
        return changed

    def _regroup(self, asked: Members) -> None:
        size = len(asked.names)
        longer = np.zeros(size - len(self._weight), np.int64)
        self._weight = np.concatenate([self._weight, longer])
        self._lean = np.concatenate([self._lean, longer + FULL])
        self._usable, self._mark = asked.usable_bps.copy(), asked.mark.copy()
        living = np.flatnonzero(asked.site >= 0).tolist()
        by_site: dict[int, list[int]] = {}
        for member in sorted(living, key=lambda index: asked.names[index]):
            by_site.setdefault(int(asked.site[member]), []).append(member)
        self._by_site = {site: np.array(ids, np.int64) for site, ids in by_site.items()}

    def _weigh(self, asked: Members, site: int, panic_below: float) -> Weighed:
        ids = self._by_site[site]
        self._usable[ids], self._mark[ids] = asked.usable_bps[ids], asked.mark[ids]
        counted = ~asked.withdrawn[ids]
        healthy = int(np.count_nonzero(asked.healthy[ids] & counted))
        among = int(np.count_nonzero(counted))
        bases = self._bases(asked, ids, counted, panic=healthy < panic_below * among)
        spread, weights = next(
            (spread, seats) for spread, basis in bases if any(seats := apportion(basis))
        )
        self._weight[ids] = weights
        return Weighed(site, tuple(ids.tolist()), tuple(weights), spread, healthy, among)

    def _bases(
        self, asked: Members, ids: I64, counted: Bools, *, panic: bool
    ) -> Iterator[tuple[Spread, list[int]]]:
        """What weights may rest on, the best first."""
        if panic:
            yield Spread.PANIC, np.where(counted, asked.capacity_bps[ids], 0).tolist()
        else:
            usable, lean = asked.usable_bps[ids].tolist(), self._lean[ids].tolist()
            leant = [bps * share for bps, share in zip(usable, lean, strict=True)]  # beyond 64 bits
            yield Spread.BY_HEALTH, leant
        yield Spread.LAST_GOOD, self._weight[ids].tolist()  # as they are, unless a member left
        yield Spread.LAST_GOOD, asked.capacity_bps[ids].tolist()  # there never were any
        yield Spread.LAST_GOOD, [1] * len(ids)
