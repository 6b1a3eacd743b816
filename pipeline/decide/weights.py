"""Weights inside a site: how its load is spread over unlike machines.

Idea: 10,000 seats are shared out over the appliances' usable capacities, as measured, as a
parliament's are over votes, so that unlike machines fill evenly and the sum is exact. Until their
loads are equal, capacities lean (balance.py).

Rule: by Sainte-Laguë (seats.py), ties to the appliance id that sorts first. All sites that moved
are weighed at once, in columns: in a busy cell they are a fifth of all at each tick.

Panic (Envoy, threshold 50 %): where fewer than `panic_below` of the appliances that did not
withdraw themselves are healthy, the evidence (silence, error rates) is more likely wrong than the
machines: all of them are weighted by inventory capacity. An appliance's own word (FAILED, DRAINING)
is always believed. Where everything has withdrawn, the last good weights stay (L7): the site gets
no share then.

Rejected: rewriting weights each second (utilisation is noisy: a site is weighed again when a state
changed or a usable capacity moved by more than `assignment.min_shift`, the 1 % below which Taiji
found shifts not worth making).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from pipeline.decide.assignment import I32, I64, Bools
from pipeline.decide.balance import FULL, TURNS, leans
from pipeline.decide.seats import TOTAL, apportion_each
from pipeline.state.codec import Packed, pack, unpack
from pipeline.state.keyindex import distinct
from pipeline.state.lpm import ragged


class Spread(StrEnum):
    """What the weights of a site rest on."""

    BY_HEALTH = "BY_HEALTH"
    PANIC = "PANIC"  # inventory capacity: the evidence of health is not believed
    LAST_GOOD = "LAST_GOOD"  # nothing is usable: as they were


#: By whether nothing is usable, and whether there is panic.
_SPREADS = {
    (False, False): Spread.BY_HEALTH,
    (False, True): Spread.PANIC,
    (True, False): Spread.LAST_GOOD,
    (True, True): Spread.LAST_GOOD,
}


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
        # Sites that have appliances, ascending, and the appliances of each by their names: those of
        # site _site[k] are _member[_first[k]:_first[k + 1]].
        self._site: I64 = np.empty(0, np.int64)
        self._first: I64 = np.zeros(1, np.int64)
        self._member: I64 = np.empty(0, np.int64)
        self._weight: I64 = np.empty(0, np.int64)
        self._usable: I64 = np.empty(0, np.int64)
        self._mark: I64 = np.empty(0, np.int64)
        self._lean: I64 = np.empty(0, np.int64)

    def to_bytes(self) -> Packed:
        """All of it for a snapshot; nothing is left to be made again."""
        return pack(
            "weigher",
            {
                "version": self._version,
                "site": self._site,
                "count": np.diff(self._first),
                "member": self._member,
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
        weigher._lean, weigher._site = fields["lean"], fields["site"]
        weigher._member = fields["member"]
        weigher._first = np.concatenate([[0], np.cumsum(fields["count"])])
        return weigher

    def sites(self) -> set[int]:
        """The sites that have appliances."""
        return set(self._site.tolist())

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
            stirred = self._site
        else:
            moved = np.abs(asked.usable_bps - self._usable)
            shifted = moved > self._usable // TOTAL * min_shift
            placed = asked.site >= 0
            marked = distinct(asked.site[(asked.mark != self._mark) & placed])
            if turn is not None:
                shifted |= self._balance(asked, marked, turn)
            stirred = distinct(np.concatenate((marked, asked.site[shifted & placed])))
        return self._weigh(asked, np.searchsorted(self._site, stirred), panic_below)

    def _balance(self, asked: Members, marked: I32, turn: int) -> Bools:
        """Take over what appliances lean by now at the sites whose turn it is; whose changed. Not
        where a state has just changed: of who fails only its own share moves in that cut (L6)."""
        sites = np.append(np.arange(asked.site.max(initial=-1) + 1), -1)
        looked = sites % TURNS == turn % TURNS
        looked[marked] = False
        changed: Bools = looked[asked.site]
        rows, before = np.flatnonzero(changed), self._lean
        where, usable_bps, load = asked.site[rows], asked.usable_bps[rows], asked.load[rows]
        lean = leans(where, usable_bps, load, self._weight[rows], before[rows])
        changed[rows] = lean != before[rows]
        self._lean[rows] = lean
        return changed

    def _regroup(self, asked: Members) -> None:
        size = len(asked.names)
        longer = np.zeros(size - len(self._weight), np.int64)
        self._weight = np.concatenate([self._weight, longer])
        self._lean = np.concatenate([self._lean, longer + FULL])
        self._usable, self._mark = asked.usable_bps.copy(), asked.mark.copy()
        living = np.flatnonzero(asked.site >= 0).tolist()
        named = np.array(sorted(living, key=lambda index: asked.names[index]), np.int64)
        self._member = named[np.argsort(asked.site[named], kind="stable")]
        site = asked.site[self._member].astype(np.int64)
        self._site = distinct(site)
        self._first = np.searchsorted(site, np.append(self._site, site.max(initial=-1) + 1))

    def _weigh(self, asked: Members, at: I64, panic_below: float) -> list[Weighed]:
        """The sites _site[at] (ascending) anew."""
        if not len(at):
            return []
        size = self._first[at + 1] - self._first[at]
        ids = self._member[ragged(self._first[at], size)]
        starts = np.cumsum(size) - size
        self._usable[ids], self._mark[ids] = asked.usable_bps[ids], asked.mark[ids]
        told = ~asked.withdrawn[ids]
        among = np.add.reduceat(told, starts, dtype=np.int64)
        healthy = np.add.reduceat(asked.healthy[ids] & told, starts, dtype=np.int64)
        panic = healthy < panic_below * among
        basis, spread = self._bases(asked, ids, starts, np.repeat(panic, size), told)
        weights = apportion_each(basis, starts)
        self._weight[ids] = weights
        members, seats = tuple(ids.tolist()), tuple(weights.tolist())
        facts = zip(
            *(column.tolist() for column in (self._site[at], starts, starts + size, panic)),
            *(column.tolist() for column in (spread, healthy, among)),
            strict=True,
        )
        return [
            Weighed(site, members[first:end], seats[first:end], _SPREADS[held, panicked], *counts)
            for site, first, end, panicked, held, *counts in facts
        ]

    def _bases(
        self, asked: Members, ids: I64, starts: I64, panic: Bools, told: Bools
    ) -> tuple[I64, Bools]:
        """What the weights of each rest on, and at which of the stretches that begin at `starts` it
        is the last good ones. (usable_bps x what it leans is below 2**61: BPS_MAX x MOST.)"""
        basis = asked.usable_bps[ids] * self._lean[ids]
        basis = np.where(panic, np.where(told, asked.capacity_bps[ids], 0), basis)
        held = ~np.logical_or.reduceat(basis > 0, starts)
        none = held
        for fallback in (
            self._weight[ids],  # as they are, unless a member left
            asked.capacity_bps[ids],  # there never were any
            np.ones(len(ids), np.int64),
        ):
            if not none.any():
                break
            size = np.diff(starts, append=len(ids))
            basis = np.where(np.repeat(none, size), fallback, basis)
            none = ~np.logical_or.reduceat(basis > 0, starts)
        return basis, held
