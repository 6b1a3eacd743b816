"""What sites measured towards client networks: round-trip time as a step of a ladder, and loss.

Idea: round-trip time decides between sites that routing holds equal, so a difference that is not
significant must be none at all. It is therefore kept as a step on a ladder of a quarter each, from
1 ms: two sites on the same step are equally near, and distance decides.
Rule: samples of one (site, client prefix) are folded in the order of the log; the smoothed time
takes an eighth of each (TCP's estimate, RFC 6298). The step changes only when the smoothed time
has left it by half a step, so that a time that lies on an edge does not go back and forth. A path
that has not been measured for age_max_ms is forgotten. Integers throughout: the ladder is a table
made by integer arithmetic.
Loss is the mean of the first samples, then smoothed with LOSS_SMOOTHING; `probes` is of how many
packets a sample tells. Which paths lose too much is for decide/lossy.py to say; it is kept here.
Rejected: the logarithm of the time (other last bits on another CPU); comparing times with a
tolerance (not transitive: a near b, b near c, but a not near c, and a ranking needs an order).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.config import SteeringConfig
from pipeline.reasons import Noted, Refusal
from pipeline.state import screens
from pipeline.state.codec import Packed, pack, unpack, within
from pipeline.state.fleet import Fleet
from pipeline.state.ids import Bool, Int32, Int64, UInt64, rounds
from pipeline.state.keyindex import KeyIndex
from pipeline.state.lpm import Prefixes
from pipeline.wire.address import masks, prefix_columns
from pipeline.wire.rows import OFFSET, Account, Check, TopicRows, passing

UInt8 = npt.NDArray[np.uint8]
Int16 = npt.NDArray[np.int16]
Float64 = npt.NDArray[np.float64]

SMOOTHING = 8
LOSS_SMOOTHING = 0.25
SEEN_MAX = 255  # samples of a path are counted so far
ROUNDS_MAX = 100  # samples of one path folded one by one in a cut; of more, the newest
RTT_MAX_US = 60_000_000
COMPACT_EVERY_MS = 60_000
_LIMITS = (
    ("rtt_us", RTT_MAX_US),
    ("throughput_bps", screens.BPS_MAX),
    ("samples", screens.COUNT_MAX),
)
_PREFIX_BITS = 128


def _ladder() -> Int64:
    """Lower ends of the steps in microseconds: 1 ms, and each a quarter above the one before."""
    ends = [1000]
    while ends[-1] <= RTT_MAX_US:
        ends.append(ends[-1] * 5 // 4)
    return np.array(ends, dtype=np.int64)


LADDER_US = _ladder()
#: A path stays on step k while FALL_US[k] <= time < RISE_US[k]: to the middle of its neighbours.
_MIDDLE_US = (LADDER_US[:-1] + LADDER_US[1:]) // 2
FALL_US = np.append([0], _MIDDLE_US)
RISE_US = np.append(_MIDDLE_US[1:], [np.iinfo(np.int64).max] * 2)


def rtt_ms_of_step(step: int) -> int:
    """The lower end of a step in whole milliseconds; -1 for none."""
    return int(LADDER_US[step]) // 1000 if step >= 0 else -1


class Paths:
    """A row per measured (site, client prefix); `version` changes with the rows, their steps and
    which are lossy."""

    rtt_ms_of_step = staticmethod(rtt_ms_of_step)

    def __init__(self) -> None:
        self.version = 0
        self.step: Int16 = np.empty(0, dtype=np.int16)  # -1: no time measured yet
        self.rtt_us: Int64 = np.empty(0, dtype=np.int64)  # smoothed
        self.loss: Float64 = np.empty(0, dtype=np.float64)  # smoothed
        self.probes: Float64 = np.empty(0, dtype=np.float64)  # of a sample, smoothed
        self.seen: UInt8 = np.empty(0, dtype=np.uint8)  # samples
        self.lossy: Bool = np.empty(0, dtype=np.bool_)
        self.sampled: Bool = np.empty(0, dtype=np.bool_)  # since somebody took the news
        self.throughput_bps: Int64 = np.empty(0, dtype=np.int64)  # in the newest sample
        self.last_at_ms: Int64 = np.empty(0, dtype=np.int64)
        self._index = KeyIndex(np.uint64, np.uint64, np.uint64)
        self._prefixes = KeyIndex(np.uint64, np.uint64, np.uint64)
        self._prefix: Int32 = np.empty(0, dtype=np.int32)  # of each row, by number
        self._room: dict[str, npt.NDArray[Any]] = {}  # what the columns stand at the head of
        self._compacted_ms = 0

    def __len__(self) -> int:
        return len(self._index)

    @property
    def hi(self) -> UInt64:
        return self._index.column(0)

    @property
    def lo(self) -> UInt64:
        return self._index.column(1)

    @property
    def site_and_length(self) -> UInt64:
        """The fleet's site id << 8 | length of the prefix."""
        return self._index.column(2)

    @property
    def length(self) -> UInt8:
        return (self._index.column(2) & np.uint64(0xFF)).astype(np.uint8)

    @property
    def site(self) -> Int32:
        """The fleet's site ids."""
        return (self._index.column(2) >> np.uint64(8)).astype(np.int32)

    def to_bytes(self) -> Packed:
        """Keys and columns by row for a snapshot; the look-up by key is made again."""
        columns = {column: getattr(self, column) for column in _COLUMNS}
        times = {"version": self.version, "compacted_ms": self._compacted_ms}
        return pack("paths", {**times, **within("key", self._index.fields()), **columns})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Paths":
        """The inverse of `to_bytes`."""
        paths, fields = cls(), unpack("paths", data)
        paths.version, paths._compacted_ms = fields["version"], fields["compacted_ms"]
        paths._index = KeyIndex.of(*fields.part("key").values())
        for column in _COLUMNS:
            setattr(paths, column, fields[column])
        paths._number_prefixes()
        return paths

    def fold(
        self, rows: TopicRows, fleet: Fleet, now_ms: int, config: SteeringConfig, account: Account
    ) -> None:
        """Take over the rows of traffic.paths."""
        frame = rows.frames.get("PathSample")
        if frame is None:
            return
        site = fleet.sites.index(frame.get_column("site"))
        prefix = prefix_columns(frame.get_column("client"))
        offsets = frame.get_column(OFFSET).to_numpy()
        checks = _checks(frame, site, prefix, fleet, now_ms, config)
        kept = passing(rows.topic, offsets, checks, account)
        hi, lo, length = (column[kept] for column in prefix)
        account.fold(rows.topic, len(hi))
        named = (site[kept].astype(np.uint64) << np.uint64(8)) | length.astype(np.uint64)
        row = self._index.intern(hi, lo, named)
        changed = self._grow()
        columns = {
            name: frame.get_column(name).to_numpy()[kept]
            for name in ("at_ms", "rtt_us", "loss", "throughput_bps", "samples")
        }
        columns["row"] = row
        self.sampled[row] = True
        parts, left_out = rounds(row, ROUNDS_MAX)
        account.note(Noted.LATE, len(left_out))
        for part in parts:
            one_each = {name: column[part] for name, column in columns.items()}
            changed |= self._samples(one_each, account)
        np.minimum(self.last_at_ms, now_ms, out=self.last_at_ms)
        self.version += changed

    def take_news(self) -> tuple[Int64, Int32]:
        """All rows of the prefixes that were sampled since this was last asked, with the number of
        their prefix, in order of it."""
        asked = np.zeros(len(self._prefixes), dtype=np.bool_)
        asked[self._prefix[self.sampled]] = True
        self.sampled[:] = False
        rows = np.flatnonzero(asked[self._prefix])
        rows = rows[np.argsort(self._prefix[rows], kind="stable")]
        return rows, self._prefix[rows]

    def mark(self, rows: Int64, lossy: Bool) -> None:
        """Say of these rows whether they lose too much."""
        changed = self.lossy[rows] != lossy
        self.lossy[rows] = lossy
        self.version += bool(changed.any())

    def compact(self, now_ms: int, config: SteeringConfig) -> bool:
        """Forget the paths that were not measured for age_max_ms; whether there were any. The rows
        of the others move. Looks once a minute only: it is called at every tick."""
        if now_ms - self._compacted_ms < COMPACT_EVERY_MS:
            return False
        self._compacted_ms = now_ms
        kept = np.flatnonzero(self.last_at_ms >= now_ms - config.inputs.age_max_ms)
        if len(kept) == len(self):
            return False
        keys = [self._index.column(number)[kept] for number in range(3)]
        self._index = KeyIndex(np.uint64, np.uint64, np.uint64)
        self._index.intern(*keys)
        for column in _COLUMNS:
            setattr(self, column, getattr(self, column)[kept])
        self._number_prefixes()
        self.version += 1
        return True

    def _number_prefixes(self) -> None:
        """Number the prefixes of all rows anew."""
        self._prefixes = KeyIndex(np.uint64, np.uint64, np.uint64)
        self._prefix = np.empty(0, np.int32)
        self._number_new()

    def _number_new(self) -> None:
        """Number those of rows that have none yet."""
        new = slice(len(self._prefix), len(self))
        keys = self.hi[new], self.lo[new], self.site_and_length[new] & np.uint64(0xFF)
        self._prefix = np.concatenate([self._prefix, self._prefixes.intern(*keys)])

    def _grow(self) -> bool:
        """Bring every column to the length of the index; whether there are new rows. Some come with
        almost every cut, so there is room for a quarter more."""
        size = len(self)
        if len(self.step) == size:
            return False
        for name, fill in _COLUMNS.items():
            column, room = getattr(self, name), self._room.get(name)
            if room is None or column.base is not room or len(room) < size:
                room = np.full(size + size // 4, fill, column.dtype)
                room[: len(column)] = column
                self._room[name] = room
            setattr(self, name, room[:size])
        self._number_new()
        return True

    def _samples(self, news: dict[str, npt.NDArray[Any]], account: Account) -> bool:
        """Fold at most one sample of each path; whether any changed its step."""
        last = self.last_at_ms[news["row"]]
        account.note(Noted.DUPLICATE, int((news["at_ms"] == last).sum()))
        account.note(Noted.REORDERED, int((news["at_ms"] < last).sum()))
        newer = news["at_ms"] > last
        news = {name: column[newer] for name, column in news.items()}
        rows = news["row"]
        seen = self.seen[rows].astype(np.float64)
        part = np.maximum(1.0 / (seen + 1.0), LOSS_SMOOTHING)
        probes = news["samples"] / np.maximum(1.0 - news["loss"], 0.01)
        for smoothed, value in ((self.loss, news["loss"]), (self.probes, probes)):
            smoothed[rows] += (value - smoothed[rows]) * part
        self.seen[rows] = np.minimum(seen + 1, SEEN_MAX)
        self.throughput_bps[rows] = news["throughput_bps"]
        self.last_at_ms[rows] = news["at_ms"]
        timed = news["samples"] > 0  # all lost: no time was measured
        rows, measured = rows[timed], news["rtt_us"][timed]
        step, before = self.step[rows], self.rtt_us[rows]
        rtt = np.where(step < 0, measured, before + (measured - before) // SMOOTHING)
        self.rtt_us[rows] = rtt
        leaves = (step < 0) | (rtt >= RISE_US[step]) | (rtt < FALL_US[step])
        on = np.maximum(np.searchsorted(LADDER_US, rtt, side="right") - 1, 0).astype(np.int16)
        self.step[rows] = np.where(leaves, on, step)
        return bool(leaves.any())


#: Column -> what stands there before the first sample.
_COLUMNS = {
    **{"step": -1, "rtt_us": 0, "loss": 0.0, "probes": 0.0, "seen": 0, "lossy": 0, "sampled": 0},
    **{"throughput_bps": 0, "last_at_ms": 0},
}


def _checks(
    frame: pl.DataFrame,
    site: Int32,
    prefix: Prefixes,
    fleet: Fleet,
    now_ms: int,
    config: SteeringConfig,
) -> list[Check]:
    unknown = ~np.append(fleet.site_alive, np.False_)[site]
    hi, lo, length = prefix
    mask_hi, mask_lo = masks(length)
    return [
        (Refusal.BAD_ID, fleet.sites.strangers(frame.get_column("site"), site)),
        (Refusal.UNKNOWN_SITE, unknown),
        (Refusal.BAD_PREFIX_LENGTH, length > _PREFIX_BITS),
        (Refusal.HOST_BITS, ((hi & ~mask_hi) | (lo & ~mask_lo)) != 0),
        *screens.doubles(frame, (("loss", 0.0, screens.FRACTION_MAX),)),
        screens.integers(frame, _LIMITS),
        *screens.times(frame, now_ms, config),
    ]
