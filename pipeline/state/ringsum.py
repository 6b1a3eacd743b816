"""The sum of some slots of a ring [slot, block, class], kept up with what changes."""

import numpy as np
import numpy.typing as npt

from pipeline.state.ids import Int64

Bools = npt.NDArray[np.bool_]


class RingSum:
    """`total` int64[block, class]: of the slots that counted when it was last looked at. It looks
    only at slots that begin or cease to count, so a slot may be overwritten only after it was seen
    to have ceased."""

    def __init__(self, classes: int) -> None:
        self.total: Int64 = np.zeros((0, classes), np.int64)
        self._counts: Bools | None = None

    def look(self, ring: Int64, counts: Bools) -> None:
        """Count these slots."""
        before = self._counts
        if before is None:
            self.total, before = np.zeros(ring.shape[1:], np.int64), np.zeros_like(counts)
        for slot in np.flatnonzero(counts & ~before).tolist():
            self.total += ring[slot]
        for slot in np.flatnonzero(before & ~counts).tolist():
            self.total -= ring[slot]
        self._counts = counts

    def add(self, slot: Int64, where: Int64, amount: Int64) -> None:
        """So much was added to the ring at these slots and flat places [block, class]."""
        if self._counts is not None:
            counted = np.flatnonzero(self._counts[slot])
            np.add.at(self.total.reshape(-1), where[counted], amount[counted])

    def forget(self) -> None:
        """The ring is another one."""
        self._counts = None
