"""The transportation problem of shares: who asks for how much, what it costs where, what fits."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.state.lpm import ragged

CLASSES = 3
TOTAL = 10_000

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]


class Rows(Protocol):
    """What must be known of all rows before it is known which of them matter: most do not, and
    their arcs need never be laid out. Columns as in Transport; home int64[R]: each row's nearest
    node."""

    @property
    def home(self) -> I64: ...
    @property
    def supply(self) -> I64: ...
    @property
    def room_class(self) -> I64: ...
    @property
    def room_site(self) -> I64: ...

    def some(self, rows: I64) -> "tuple[Transport, I64]":
        """These rows alone, and which arcs (by the numbers of the whole) theirs are."""
        ...


@dataclass(frozen=True, slots=True)
class Transport:
    """R rows with A arcs, and S sites with their nodes s * 3 + class.

    offsets int64[R + 1]: row r has the arcs offsets[r] to offsets[r + 1], at least one, by cost,
    which does not decrease: the first is its nearest; node, cost int64[A]; held int64[A]: the
    share now, in ten-thousandths; key uint64[R]: for ties; supply int64[R], above 0; room_class
    int64[S * 3], room_site int64[S], not below 0."""

    offsets: I64
    node: I64
    cost: I64
    held: I64
    key: U64
    supply: I64
    room_class: I64
    room_site: I64

    def only(self, arcs: I64) -> "Transport":
        """The same with these arcs alone (ascending, each row's first among them)."""
        return replace(
            self,
            offsets=np.searchsorted(arcs, self.offsets),
            node=self.node[arcs],
            cost=self.cost[arcs],
            held=self.held[arcs],
        )

    @property
    def home(self) -> I64:
        return self.node[self.offsets[:-1]]

    def some(self, rows: I64) -> "tuple[Transport, I64]":
        first = self.offsets[rows]
        count = self.offsets[rows + 1] - first
        arcs = ragged(first, count)
        part = replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(count)]),
            node=self.node[arcs],
            cost=self.cost[arcs],
            held=self.held[arcs],
            key=self.key[rows],
            supply=self.supply[rows],
        )
        return part, arcs


def nearest_flow(part: Transport) -> I64:
    """Everybody at the nearest node."""
    flow = np.zeros(len(part.node), np.int64)
    flow[part.offsets[:-1]] = part.supply
    return flow


def loads_of(part: Transport, flow: I64) -> I64:
    load, some = np.zeros(len(part.room_class), np.int64), np.flatnonzero(flow)
    np.add.at(load, part.node[some], flow[some])
    return load


def nearest_loads(rows: Rows) -> I64:
    """The load of the nodes with everybody at the nearest."""
    load = np.zeros(len(rows.room_class), np.int64)
    np.add.at(load, rows.home, rows.supply)
    return load


def by_site(load: I64) -> I64:
    total: I64 = load.reshape(-1, CLASSES).sum(axis=1)
    return total


@dataclass(frozen=True, slots=True)
class Excess:
    """Overflow allowed of nodes and sites: what everybody-nearest puts above their limits."""

    node: I64
    site: I64

    @classmethod
    def of(cls, part: Transport, load: I64) -> "Excess":
        return cls(
            np.maximum(load - part.room_class, 0),
            np.maximum(by_site(load) - part.room_site, 0),
        )


def overflow_cost(part: Transport) -> int:
    """More than any chain of moves: it passes each node and site that may fill up once."""
    first = part.cost[part.offsets[:-1]]
    span = int((part.cost[part.offsets[1:] - 1] - first).max(initial=0))
    known = np.zeros(len(part.room_class), np.bool_)
    known[part.node] = True
    sites = known.reshape(-1, CLASSES).any(axis=1)
    return (int(known.sum()) + int(sites.sum()) + 2) * (span + 1)
