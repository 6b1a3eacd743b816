"""What client blocks drew in the last buckets of time: a ring [slot, block, class], and its sums.

Rule: bucket number n (time // bucket_ms) stands in slot n % slots, one slot more than a window has
buckets: the newest is not complete yet. The sums of the complete buckets, and of the newer half of
them, are kept up with every change instead of added up when somebody asks (ringsum.py).
`version` changes whenever what the sums say may have.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.state.ids import Int64
from pipeline.state.ringsum import RingSum

Bools = npt.NDArray[np.bool_]


class Windows(NamedTuple):
    """bool[slots] each: the complete buckets, the older and the newest part of them."""

    complete: Bools
    older: Bools
    newest: Bools


class DemandRing:
    """`held` int64[slots]: number of the bucket that each slot holds; `drawn` int64[slot, block,
    class] in bytes, with room for more blocks than there are. Both are empty, and bucket_ms is 0,
    before the first `rebuild`."""

    def __init__(self, classes: int) -> None:
        self.window_ms = self.bucket_ms = self.version = 0
        self.held: Int64 = np.empty(0, dtype=np.int64)
        self.drawn: Int64 = np.zeros((0, 0, classes), dtype=np.int64)
        # As seen from bucket _seen_from (-1: not looked at). They follow from the ring.
        self._whole, self._recent = RingSum(classes), RingSum(classes)
        self._seen_from = -1

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "DemandRing":
        """From its columns and settings, by name."""
        ring = cls(fields["ring"].shape[2])
        ring.window_ms, ring.bucket_ms = fields["window_ms"], fields["bucket_ms"]
        ring.held, ring.drawn = fields["held"], fields["ring"]
        return ring

    def __len__(self) -> int:
        """Slots."""
        return len(self.held)

    @property
    def buckets(self) -> int:
        """Complete ones of a window."""
        return len(self.held) - 1

    @property
    def apart_ms(self) -> float:
        """From the middle of the older half of a window to that of the newer one."""
        return self.buckets * self.bucket_ms / 2

    @property
    def room(self) -> int:
        """For so many blocks."""
        return int(self.drawn.shape[1])

    def bucket(self, now_ms: int) -> int:
        """The one that is not complete at `now_ms`."""
        return now_ms // self.bucket_ms

    def sums(self, now_ms: int, blocks: int) -> tuple[Int64, Int64]:
        """Bytes [block, class] in the complete buckets, and in the newer half of them."""
        current = self.bucket(now_ms)
        if current != self._seen_from:
            self._look_from(current)
        return self._whole.total[:blocks], self._recent.total[:blocks]

    def windows(self, current: int) -> Windows:
        """Which slots are what, as seen from bucket `current`."""
        complete = self._since(current, self.buckets)
        newer = complete & self._since(current, self.buckets // 2)
        newest = complete & self._since(current, max(self.buckets // 4, 1))
        return Windows(complete, complete & ~newer, newest)

    def add(self, slot: Int64, block: Int64, klass: Int64, amount: Int64) -> None:
        """Add bytes; each place at most once."""
        classes = self.drawn.shape[2]
        # flat places: three indices take three times as long
        self.drawn.reshape(-1)[(slot * self.room + block) * classes + klass] += amount
        self.version += 1
        if self._seen_from >= 0:
            where = block * classes + klass
            for kept_up in (self._whole, self._recent):
                kept_up.add(slot, where, amount)

    def advance(self, now_ms: int) -> list[int]:
        """Turn to `now_ms`; returns the slots that began anew, as what they held has left."""
        current, slots, newest = self.bucket(now_ms), len(self), int(self.held.max())
        if newest >= current:
            return []
        if self._seen_from >= 0:
            self._look_from(current)  # while the ring still holds what has left it
        begun = []
        for number in range(max(newest + 1, current - slots + 1), current + 1):
            begun.append(number % slots)
            self.drawn[begun[-1]] = 0
            self.held[begun[-1]] = number
        if self._seen_from >= 0:
            self._look_from(current)  # rows that come late belong to buckets that begin empty
        return begun

    def grow(self, blocks: int) -> bool:
        """Make room for so many blocks; whether that took another ring."""
        slots, room, classes = self.drawn.shape
        if room >= blocks:
            return False
        drawn = np.zeros((slots, max(blocks, room * 3 // 2), classes), dtype=np.int64)
        drawn[:, :room] = self.drawn
        self.drawn = drawn
        self._forget_sums()
        return True

    def keep(self, blocks: Int64) -> None:
        """These blocks alone, in this order."""
        self.drawn = self.drawn.take(blocks, axis=1)
        self._forget_sums()

    def rebuild(self, window_ms: int, bucket_ms: int) -> None:
        """Another window or bucket: what is in the ring moves to where its buckets begin."""
        held, drawn, was_ms = self.held, self.drawn, self.bucket_ms
        self._forget_sums()
        slots = -(-window_ms // bucket_ms) + 1
        self.window_ms, self.bucket_ms = window_ms, bucket_ms
        self.held = np.full(slots, -1, dtype=np.int64)
        self.drawn = np.zeros((slots, *drawn.shape[1:]), dtype=np.int64)
        if not len(held):
            return
        newest = int(held.max()) * was_ms // bucket_ms
        numbers = np.arange(newest - slots + 1, newest + 1)
        self.held[numbers % slots] = numbers
        for slot, number in enumerate(held.tolist()):
            moved = number * was_ms // bucket_ms
            if number >= 0 and moved > newest - slots:
                self.drawn[moved % slots] += drawn[slot]

    def _since(self, current: int, buckets: int) -> Bools:
        """The slots that hold one of so many buckets before `current`."""
        return (self.held < current) & (self.held >= current - buckets)

    def _look_from(self, current: int) -> None:
        self._whole.look(self.drawn, self._since(current, self.buckets))
        self._recent.look(self.drawn, self._since(current, self.buckets // 2))
        self._seen_from = current
        self.version += 1

    def _forget_sums(self) -> None:
        self._seen_from = -1
        self.version += 1
        self._whole.forget()
        self._recent.forget()
