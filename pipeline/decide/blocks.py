"""Which served group a client block belongs to: by the longest prefix around it.

Idea: there are some ten thousand blocks and few changes, so what was found is kept and only what
may be wrong is looked for again: the prefix around a block when the block is new or prefixes came
or went; the place of its group among the served ones when that place now holds another group. Both
follow from the demand, the table and the served groups as they are, so nothing of it is part of a
snapshot.
"""

import numpy as np

from pipeline.decide.assignment import CLASSES, I32, I64, U64
from pipeline.decide.groups import RegionTable
from pipeline.decide.serving import ServedGroups
from pipeline.state.demand import Demand
from pipeline.state.lpm import Prefixes
from pipeline.wire.address import masks


class Blocks:
    """The blocks of one region, in the order of their ids."""

    def __init__(self) -> None:
        self._seen = (-1, 0)  # generation of the demand's ids, and how many there were
        self._shape = -1
        self._versions = (-1, -1)
        self._block: I64 = np.empty(0, np.int64)
        self._around: I32 = np.empty(0, np.int32)  # the longest prefix, by its id in the routes
        self._slot: I64 = np.empty(0, np.int64)  # of the served group; -1: none

    def demand_bps(
        self, region: int, demand: Demand, table: RegionTable, groups: ServedGroups, now_ms: int
    ) -> I64:
        """Demand int64[G, 3] to plan for of the served groups, by slot."""
        moved = self._follow(region, demand, table)
        if moved or self._versions != (table.version, groups.version):
            self._versions = (table.version, groups.version)
            self._place(table, groups)
        served = np.flatnonzero(self._slot >= 0)
        planned_bps = demand.planned_bps(now_ms, self._block[served])
        return _sums(planned_bps, self._slot[served], len(groups.alive))

    def demand_of(
        self, ids: U64, region: int, demand: Demand, table: RegionTable, now_ms: int
    ) -> I64:
        """The same int64[ids, 3] of these (distinct) groups of the table. Costs a look at each
        block's prefix, but no search for its group."""
        self._follow(region, demand, table)
        group, asked = table.groups_of(self._around), table.indices(ids)
        place = np.full(len(table.group_id) + 1, -1, np.int32)  # the last one stands for "none"
        place[asked] = np.arange(len(ids), dtype=np.int32)
        place[-1] = -1
        at = place[group]
        inside = np.flatnonzero(at >= 0)
        return _sums(demand.planned_bps(now_ms, self._block[inside]), at[inside], len(ids))

    def level_bps(self, demand: Demand, now_ms: int) -> I64:
        """Of all of them together, int64[3]."""
        level: I64 = demand.level_bps(now_ms, self._block).sum(axis=0)
        return level

    def _follow(self, region: int, demand: Demand, table: RegionTable) -> bool:
        """Find the prefixes around blocks where they are not known; whether there were such."""
        if self._seen == (demand.generation, len(demand)) and self._shape == table.shape:
            return False
        if demand.generation != self._seen[0]:
            self._seen, self._shape = (demand.generation, 0), table.shape
            self._block, self._slot = self._block[:0], self._slot[:0]
            self._around = self._around[:0]
        if moved := table.shape != self._shape:
            hi, lo = demand.block_hi[self._block], demand.block_lo[self._block]
            at = _inside(table.shape_changes(self._shape), hi, lo)
            self._around[at] = table.longest(hi[at], lo[at])
            self._shape = table.shape
        first, self._seen = self._seen[1], (demand.generation, len(demand))
        fresh = first + np.flatnonzero(demand.block_region[first:] == region)
        if not len(fresh):
            return moved
        around = table.longest(demand.block_hi[fresh], demand.block_lo[fresh])
        self._block = np.concatenate([self._block, fresh])
        self._around = np.concatenate([self._around, around])
        self._slot = np.concatenate([self._slot, np.full(len(fresh), -1, np.int64)])
        return True

    def _place(self, table: RegionTable, groups: ServedGroups) -> None:
        """Bring the slots up to the groups that the blocks are in now."""
        group = table.groups_of(self._around)
        inside = group >= 0
        if not inside.any() or not len(groups.alive):  # plays may come before the first route
            self._slot[:] = -1
            return
        wanted = table.group_id[group]  # of no meaning where outside
        known = (self._slot >= 0) & (self._slot < len(groups.alive))
        at = np.where(known, self._slot, 0)
        right = known & inside & (groups.group[at] == wanted) & groups.alive[at]
        lost = np.flatnonzero(~right)
        self._slot[lost] = np.where(inside[lost], groups.slots(wanted[lost]), -1)


def _inside(changes: Prefixes | None, hi: U64, lo: U64) -> I64:
    """The addresses that lie in one of these prefixes; all of them where it is not known which."""
    hit = np.full(len(hi), changes is None)
    if changes is not None:
        mask_hi, mask_lo = masks(changes[2])
        for number in range(len(mask_hi)):
            hit |= ((hi & mask_hi[number]) == changes[0][number]) & (
                (lo & mask_lo[number]) == changes[1][number]
            )
    return np.flatnonzero(hit)


def _sums(values: I64, row: I64 | I32, rows: int) -> I64:
    """Sums of int64[N, 3] by row: int64[rows, 3]."""
    total = np.zeros(rows * CLASSES, np.int64)
    np.add.at(total, (row[:, None] * CLASSES + np.arange(CLASSES)).reshape(-1), values.reshape(-1))
    return total.reshape(rows, CLASSES)
