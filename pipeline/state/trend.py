"""Where demand is going: what it will have grown by when a table made now has taken effect.

Idea: the level is the mean of a minute, so it lags half a minute behind, and a crowd that comes
within half a minute is planned for when it is there. The two halves of the window tell how fast
demand changes; how far they differ by chance alone is learned from all blocks of a class, since
the sum of what N viewers draw wavers with the root of N, however many they are.
Rule, for each block and class, with n complete buckets of the window, the newest n // 2 of them
recent, in bytes a bucket:
    difference  d = mean(recent) - mean(older)
    its error   e = sqrt(noise x level x (1 / recent buckets + 1 / older buckets))
    change      d - SIGNIFICANT x e, of a fall d + SIGNIFICANT x e; 0 where that turns it round
    planned     level + change x (n / 2 + ahead) / (n / 2), ahead: AHEAD_MS in buckets
`noise` is the mean of d^2 over the mean of e^2 / noise: an index of dispersion. It is smoothed with
1 / 2**LEARN_SHIFT a bucket, and no bucket may claim more than twice of what is known: a crowd would
else hide itself in its own noise. Before a whole window was seen there is no trend.
A fall beyond chance is told in the same way: what is forecast (forecast.py) is what is planned for,
and falls as well. Only growth is planned for: a site that is too full costs stalls, one with too
much room a detour of half a minute. What exceeds its error by a little counts by that little, so
nothing jumps.
Measured in closed loop (docs/adr/0030): SIGNIFICANT 3 against 4, AHEAD_MS 15 s against 30. It
costs 2.5 ms for each bucket at 131,000 blocks.
Source: the significance of a slope against its residual; damped trends (Gardner and McKenzie 1985)
for planning less far than one looks. Arithmetic: + - * / sqrt, and NumPy's own sums.
Rejected: Holt's smoothing (rows that come late would be lost to it, its past depends on when it was
asked); the error of each block by its own residual (a block of two viewers doubles when two come);
the trend of the region for all (it moved three times as many viewers, those of quiet metros).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.state.ids import Int64

F64 = npt.NDArray[np.float64]

SIGNIFICANT = 3.0
AHEAD_MS = 15_000
LEARN_SHIFT = 6
#: So many bytes of noise are believed at once: a hundredth of what a viewer draws in a bucket.
_NOISE_STEP = 65_536.0


class Moving(NamedTuple):
    """What rises or falls beyond chance: (block, class) pairs, by class and then by block; what
    they drew in the older half of the window and in the newer one; by how many bytes a bucket they
    change from half to half, less chance."""

    block: Int64
    klass: Int64
    before_bps: Int64
    after_bps: Int64
    change: F64

    @classmethod
    def none(cls) -> "Moving":
        """Nothing does."""
        none: Int64 = np.empty(0, np.int64)
        return cls(none, none, none, none, np.empty(0))

    def only(self, which: npt.NDArray[np.bool_] | Int64) -> "Moving":
        """Those of them."""
        block, klass, before_bps, after_bps, change = self
        told = block[which], klass[which], before_bps[which], after_bps[which]
        return Moving(*told, change[which])

    def ahead(self, apart_ms: float) -> F64:
        """By how many bytes a bucket they will be beyond the level, where the middles of the halves
        are so far from each other."""
        found: F64 = self.change * reach(apart_ms)
        return found

    def ahead_bps(self, apart_ms: float, bucket_ms: int) -> Int64:
        """The same in bit/s."""
        found: Int64 = (self.change * (reach(apart_ms) * (8000.0 / bucket_ms))).astype(np.int64)
        return found


def reach(apart_ms: float) -> float:
    """How many times a change from half to half goes on from the middle of the window."""
    return (apart_ms + AHEAD_MS) / apart_ms


class Trend:
    """`noise` float64[classes], bytes: how far a block's demand wavers by itself. `moving`: as
    of the last bucket that was learned from."""

    def __init__(self, classes: int) -> None:
        self.noise: F64 = np.zeros(classes)
        self.moving = Moving.none()
        self._first = self._last = -1  # buckets learned from

    def fields(self) -> dict[str, Any]:
        """For a snapshot."""
        kept = {"noise": self.noise, "first": self._first, "last": self._last}
        return kept | self.moving._asdict()

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Trend":
        """The inverse of `fields`."""
        trend = cls(len(fields["noise"]))
        trend.noise, trend._first, trend._last = fields["noise"], fields["first"], fields["last"]
        trend.moving = Moving(*(fields[name] for name in Moving._fields))
        return trend

    @property
    def risen(self) -> Moving:
        """What rises."""
        return self.moving.only(self.moving.change > 0)

    def turned(self, current: int) -> bool:
        """Whether bucket `current` is a new one."""
        return current > self._last

    def learn(
        self,
        whole: Int64,
        recent: Int64,
        buckets: int,
        bucket_ms: int,
        current: int,
        *,
        still: bool = False,
    ) -> None:
        """From what all blocks drew (bytes [block, class] in the window, and in its newer half) as
        seen from bucket `current`, once for each. `still`: the noise stays what it was."""
        if self._first < 0:
            self._first = current
        known = self.ready(buckets)
        self._last = current
        if not self.ready(buckets):
            return
        found = []
        for klass in range(len(self.noise)):
            block = np.flatnonzero(whole[:, klass])
            if len(block):
                half = _Halves.of(whole[block, klass], recent[block, klass], buckets)
                if not still:
                    self.noise[klass] = _noise(half, float(self.noise[klass]) if known else None)
                found.append(_moving(block, klass, half, float(self.noise[klass]), bucket_ms))
        columns = zip(*found, strict=True)
        self.moving = Moving(*map(np.concatenate, columns)) if found else Moving.none()

    def chance_bps(self, level_bps: Int64, buckets: int, bucket_ms: int) -> Int64:
        """How much what draws this much, by class, may rise by chance."""
        level = level_bps * (bucket_ms / 8000.0)  # bytes a bucket
        error = np.sqrt(self.noise * level * _weight(buckets))
        found: Int64 = (SIGNIFICANT * error * 8000.0 / bucket_ms).astype(np.int64)
        return found

    def only(self, which: npt.NDArray[np.bool_]) -> None:
        """Of what moves, forget the rest."""
        self.moving = self.moving.only(which)

    def renumber(self, kept: Int64) -> None:
        """Only the blocks `kept` (ascending) are left, and are numbered in this order."""
        at = np.minimum(np.searchsorted(kept, self.moving.block), max(len(kept) - 1, 0))
        there = np.flatnonzero(kept[at] == self.moving.block) if len(kept) else at[:0]
        self.moving = self.moving.only(there)._replace(block=at[there])

    def ready(self, buckets: int) -> bool:
        """Whether there are two halves, and what was drawn in both, not before the first play."""
        return buckets > 1 and self._first >= 0 and self._last - self._first > buckets


class _Halves(NamedTuple):
    """Bytes a bucket of some blocks in the window, in its older and in its newer half."""

    level: F64
    older: F64
    newer: F64
    buckets: int

    @classmethod
    def of(cls, whole: Int64, recent: Int64, buckets: int) -> "_Halves":
        newer = buckets // 2
        older = (whole - recent) / (buckets - newer)
        return cls(whole / buckets, older, recent / newer, buckets)


def _weight(buckets: int) -> float:
    newer = buckets // 2
    return 1.0 / newer + 1.0 / (buckets - newer)


def _noise(half: _Halves, known: float | None) -> float:
    """The index of dispersion, given what it was."""
    off = half.newer - half.older
    found = float((off * off).sum()) / (float(half.level.sum()) * _weight(half.buckets))
    if known is None:
        return found
    return known + (min(found, 2.0 * known + _NOISE_STEP) - known) / (1 << LEARN_SHIFT)


def _moving(block: Int64, klass: int, half: _Halves, noise: float, bucket_ms: int) -> Moving:
    """Those of these blocks that rise or fall beyond chance."""
    off = half.newer - half.older
    limit = noise * _weight(half.buckets) * SIGNIFICANT * SIGNIFICANT
    at = np.flatnonzero(off * off > limit * half.level)
    chance = np.sqrt(limit * half.level[at])
    bps = 8000.0 / bucket_ms
    before, after = ((level[at] * bps).astype(np.int64) for level in (half.older, half.newer))
    change = off[at] - np.where(off[at] > 0, chance, -chance)
    return Moving(block[at], np.full(len(at), klass), before, after, change)
