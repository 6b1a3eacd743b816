"""What demand will be in a minute, and how far such forecasts were off.

Idea: an error that is stated must have been measured: what was forecast is kept until the minute is
over and held against what came. A forecast is of the level as it will be HORIZON_MS from now, which
by default is the mean of the next minute.
Rule, for each block and class, `distance` the horizon in buckets:
    forecast  level + ahead + drift x level x distance
    ahead     what is beyond chance, up or down, carried on as far as planning does (trend.py)
    drift     growth a bucket of all blocks of a region and class that do not change beyond chance,
              smoothed with 1 / 2**DRIFT_SHIFT: the way of a day, which no single block can show
    error     sqrt(dispersion x forecast), dispersion: (what came - forecast)^2 / forecast, smoothed
              over minutes for each block; a new block begins with that of its class
and for each region and class the sum of the forecasts, with the mean square of the relative error.
A block is asked once in a minute, in turn, so that a bucket costs a twelfth of them and no block
keeps more than one forecast. While plays of a region are missing nothing is held against it.
Source: trend by exponential smoothing (Holt 1957), damped (Gardner and McKenzie 1985); empirical
errors at the lead time itself (Williams and Goodman 1971), no model of them.
Tried with seeded viewers of a daily ramp (45 min sessions; root mean square error of a region as a
share of the last level's): 2,000 viewers 1.02, 20,000 0.95, 200,000 0.64, a million 0.35. With
DRIFT_SHIFT 6: 1.08, 1.00, 0.67, 0.35. Of a crowd of ten times within half a minute the error is
1.68 of what was there before (1.51 if it were carried on just to now, 2.04 for the whole minute,
1.87 for the last level), of one that takes five minutes 0.35 (0.53, 0.31, 1.00).
It costs about as much for each bucket as trend.py, 3 MB at 131,000 blocks.
Rejected: errors by block and age of forecast (twelve times the memory); the drift in plans (0.3 % a
minute: shares that differ by less than 1 % are not published).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.state.ids import Int32, Int64
from pipeline.state.trend import Moving

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

HORIZON_MS = 60_000
DRIFT_SHIFT = 8
#: A block is asked once a minute: eight minutes. A region in each bucket: ten minutes. The classes,
#: of a twelfth of the blocks in each bucket: half a minute of them.
BLOCK_SHIFT, REGION_SHIFT, CLASS_SHIFT = 3, 7, 5
_COLUMNS = (
    *("drift", "total", "expected", "pending", "squares", "asked"),
    *("of_class", "dispersion", "kept", "made"),
)


class Expected(NamedTuple):
    """By class, in bit/s: the level, what it will be in HORIZON_MS, and the root mean square error
    of such forecasts; -1: none was held against what came yet."""

    level_bps: Int64
    bps: Int64
    error_bps: Int64


class Seen(NamedTuple):
    """Of the client blocks, by id: bytes [block, class] of a window of so many buckets, and of its
    newer half; their region, and which regions' plays are missing in part."""

    whole: Int64
    recent: Int64
    buckets: int
    region: Int32
    short: Int64


class Forecast:
    """Bytes a bucket. `drift`, `total`, `expected` float64[regions, classes]; `squares` of the
    relative error there, of `asked` forecasts. `dispersion`, `kept` float32[blocks, classes]: -1
    where not known, and where no forecast is kept."""

    def __init__(self, classes: int) -> None:
        self.drift: F64 = np.zeros((0, classes))
        self.total, self.expected = self.drift.copy(), self.drift.copy()
        self.pending: F64 = np.zeros((0, 0, classes))  # [bucket % lag, region, class]
        self.squares: F64 = np.zeros((0, classes))
        self.asked: Int64 = np.zeros((0, classes), np.int64)
        self.of_class: F64 = np.full(classes, -1.0)
        self.dispersion: F32 = np.zeros((0, classes), np.float32)
        self.kept: F32 = np.zeros((0, classes), np.float32)
        self.made: Int64 = np.zeros(0, np.int64)  # in which bucket each slot's forecasts were made

    def fields(self) -> dict[str, Any]:
        """For a snapshot."""
        return {name: getattr(self, name) for name in _COLUMNS}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Forecast":
        """The inverse of `fields`."""
        forecast = cls(len(fields["of_class"]))
        for name in _COLUMNS:
            setattr(forecast, name, fields[name])
        return forecast

    def learn(self, drawn: Seen, moving: Moving, noise: F64, bucket_ms: int, current: int) -> None:
        """Once for each bucket `current`: hold against what came what was forecast for it, and
        forecast anew. `noise`: of Trend."""
        self._grow(drawn, -(-HORIZON_MS // bucket_ms))
        lag, apart = len(self.made), drawn.buckets / 2
        ahead = moving.ahead(apart * bucket_ms)
        trusted = np.ones(len(self.drift), np.bool_)
        trusted[drawn.short] = False
        self._drift(drawn, moving, apart, trusted)
        risen = np.zeros_like(self.total)
        np.add.at(risen, (drawn.region[moving.block], moving.klass), ahead)
        self.expected = np.maximum(self.total * (1.0 + lag * self.drift) + risen, 0.0)
        slot = current % lag
        came = self.made[slot] == current - lag
        if came:
            self._judge_regions(self.pending[slot], trusted)
        self.pending[slot] = np.where(trusted[:, None], self.expected, -1.0)
        asked = slice(slot, None, lag)
        region = drawn.region[asked]
        level = drawn.whole[asked] / drawn.buckets
        if came:
            self._judge_blocks(asked, level, trusted[region], noise)
        expected = level * (1.0 + lag * self.drift[region])
        mine = np.flatnonzero(moving.block % lag == slot)
        expected[moving.block[mine] // lag, moving.klass[mine]] += ahead[mine]
        self.kept[asked] = np.where(trusted[region][:, None], np.maximum(expected, 0.0), -1.0)
        self.made[slot] = current

    def of_blocks(
        self,
        blocks: Int64,
        level_bps: Int64,
        region: Int32,
        moving: Moving,
        apart_ms: float,
        bucket_ms: int,
    ) -> Expected:
        """Of these (distinct) blocks, whose level and region are given; buckets as learned."""
        lag = len(self.made)
        if not lag:
            return Expected(level_bps, level_bps, np.full_like(level_bps, -1))
        bps = level_bps * (1.0 + lag * self.drift[region])
        place = np.full(len(self.dispersion), -1, np.int64)
        place[blocks] = np.arange(len(blocks))
        mine = moving.only(place[moving.block] >= 0)
        bps[place[mine.block], mine.klass] += mine.ahead_bps(apart_ms, bucket_ms)
        bps = np.maximum(bps, 0.0)
        dispersion = self.dispersion[blocks].astype(np.float64)
        dispersion = np.where(dispersion < 0, self.of_class, dispersion)
        error = np.sqrt(np.maximum(dispersion, 0.0) * 8000.0 / bucket_ms * bps)
        error = np.where(dispersion < 0, -1, error)
        return Expected(level_bps, bps.astype(np.int64), error.astype(np.int64))

    def of_region(self, region: int, bucket_ms: int) -> Expected:
        """Of all of a region, int64[classes] each."""
        classes = len(self.of_class)
        if region >= len(self.expected):
            none: Int64 = np.zeros(classes, np.int64)
            return Expected(none, none, none - 1)
        level, bps = (one[region] * (8000.0 / bucket_ms) for one in (self.total, self.expected))
        error = np.where(self.asked[region] > 0, bps * np.sqrt(self.squares[region]), -1)
        return Expected(*(one.astype(np.int64) for one in (level, bps, error)))

    def renumber(self, kept: Int64) -> None:
        """Only the blocks `kept` (ascending) are left, and are numbered in this order: each has
        another turn, so that what was forecast for them is let go."""
        known = kept[kept < len(self.dispersion)]
        self.dispersion, self.kept = self.dispersion[known], self.kept[known]
        self.kept[:] = -1

    def _grow(self, drawn: Seen, lag: int) -> None:
        """Make room for so many blocks and regions."""
        blocks, classes = drawn.whole.shape
        if not len(self.made):
            self.made = np.full(lag, -1, np.int64)
            self.pending = np.full((lag, 0, classes), -1.0)
        more = int(drawn.region.max(initial=-1)) + 1 - len(self.drift)
        if more > 0:
            for name in ("drift", "total", "expected", "squares", "asked"):
                setattr(self, name, np.pad(getattr(self, name), ((0, more), (0, 0))))
            wide = ((0, 0), (0, more), (0, 0))
            self.pending = np.pad(self.pending, wide, constant_values=-1.0)
        more = blocks - len(self.kept)
        if more > 0:
            fresh = np.full((more, classes), -1.0, np.float32)
            self.dispersion = np.concatenate([self.dispersion, fresh])
            self.kept = np.concatenate([self.kept, fresh])

    def _drift(self, drawn: Seen, moving: Moving, apart: float, trusted: Bools) -> None:
        """What regions draw, and how what does not change beyond chance grows."""
        region, buckets, regions = drawn.region, drawn.buckets, len(self.drift)
        newer = buckets // 2
        pairs = drawn.region[moving.block], moving.klass
        for klass in range(len(self.of_class)):
            self.total[:, klass] = np.bincount(region, drawn.whole[:, klass], regions)
        recent = np.stack([np.bincount(region, one, regions) for one in drawn.recent.T], axis=1)
        quiet = self.total.copy()
        np.subtract.at(quiet, pairs, drawn.whole[moving.block, moving.klass].astype(np.float64))
        np.subtract.at(recent, pairs, drawn.recent[moving.block, moving.klass].astype(np.float64))
        grown = recent / newer - (quiet - recent) / (buckets - newer)
        growth = grown / np.maximum(quiet / buckets, 1.0) / apart
        learned = (quiet > 0) & trusted[:, None]
        self.drift += np.where(learned, growth - self.drift, 0.0) / (1 << DRIFT_SHIFT)
        self.total /= buckets

    def _judge_regions(self, forecast: F64, trusted: Bools) -> None:
        told = trusted[:, None] & (forecast > 0)
        off = np.where(told, (self.total - forecast) / np.where(told, forecast, 1.0), 0.0)
        self.asked += told
        many = np.minimum(np.maximum(self.asked, 1), 1 << REGION_SHIFT)
        self.squares += np.where(told, off * off - self.squares, 0.0) / many

    def _judge_blocks(self, asked: slice, level: F64, trusted: Bools, noise: F64) -> None:
        forecast = self.kept[asked].astype(np.float64)
        told = trusted[:, None] & ((forecast > 0) | (level > 0) & (forecast == 0))
        scale = np.where(told, np.maximum(forecast, np.maximum(noise, 1.0)), 1.0)
        off = np.where(told, level - forecast, 0.0)
        found = off * off / scale
        some = told.any(axis=0)
        mean = (off * off).sum(axis=0) / np.maximum(np.where(told, scale, 0.0).sum(axis=0), 1.0)
        known = np.where(self.of_class < 0, mean, self.of_class)
        self.of_class = np.where(some, known + (mean - known) / (1 << CLASS_SHIFT), self.of_class)
        own = self.dispersion[asked].astype(np.float64)
        own = np.where(own < 0, self.of_class, own)
        learned = own + (found - own) / (1 << BLOCK_SHIFT)
        self.dispersion[asked] = np.where(told, learned, self.dispersion[asked])
