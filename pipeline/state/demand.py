"""How much each client network wants, by traffic class: bytes per block in a ring of time buckets.

Idea: a million plays a second end up in a few thousand numbers, so a row must cost no Python
object and be looked up only after the rows of one block (plays.py) have been added up.
What a play wants is what it received and what a stall kept from it: bitrate x stall. By what
arrives alone a full site would look as if it were asked for just what it can send, and nothing
would ever be planned elsewhere (docs/adr/0025).
Rule: rows go by their own time into buckets of demand_bucket_ms; the level is what the complete
buckets of the last demand_window_ms hold. What is older than the ring is counted and folded
without effect; a clock ahead counts as now. A play belongs to the region of the appliance that
served it; if the inventory does not name that, to the cell's region when it has just one, else to
none. All sums are of integers, so neither order nor threads change them; new blocks get their ids
in the order of their keys, cut by cut. Rows wait until somebody asks (waiting.py).
Measured on a busy 2-core machine, half a million rows at once: 0.12 us a row over 4,000 blocks,
0.15 over 100,000.
Rejected: a decayed sum (the past would change with the order of arrival); a window that ends now
(its newest bucket is never full, so demand would look too low by half a bucket).
"""

import numpy as np

from pipeline.config import SteeringConfig
from pipeline.reasons import Noted
from pipeline.state import screens
from pipeline.state.codec import Packed, pack, unpack, within
from pipeline.state.demandring import DemandRing
from pipeline.state.fleet import CLASSES, Fleet
from pipeline.state.forecast import Expected, Forecast, Seen
from pipeline.state.ids import Int32, Int64, UInt64, grown
from pipeline.state.keyindex import KeyIndex
from pipeline.state.playrows import PlayRows, blocks_of, play_rows, regions_of
from pipeline.state.reporting import Drawn, Heard, Reporting
from pipeline.state.trend import Trend
from pipeline.state.waiting import MANY, Waiting
from pipeline.state.waiting import Drawn as Waited
from pipeline.wire.rows import OFFSET, Account, TopicRows, passing

#: A block that nobody was served in for so long is forgotten (at the next compaction).
IDLE_MS = 600_000

_U64 = np.uint64
_LIMITS = (
    ("bytes", screens.BYTES_MAX),
    ("bitrate_bps", screens.BPS_MAX),
    ("startup_ms", screens.COUNT_MAX),
    ("stall_ms", screens.COUNT_MAX),
)


class Demand:
    """Blocks by dense id: block_region int32, block_hi, block_lo uint64 (first address).

    `generation` changes whenever the ids of blocks have changed their meaning (compact).
    """

    def __init__(self) -> None:
        self._block_region: Int32 = np.empty(0, dtype=np.int32)
        self._block_hi: UInt64 = np.empty(0, dtype=np.uint64)
        self._block_lo: UInt64 = np.empty(0, dtype=np.uint64)
        self.generation = 0
        self._starts: Int64 = np.zeros(len(CLASSES), dtype=np.int64)  # sessions begun, ever
        self._bytes: Int64 = np.zeros(len(CLASSES), dtype=np.int64)  # wanted, ever
        self._waiting = Waiting()
        self._tidied = -1  # in which bucket it was looked for idle blocks
        self._index = KeyIndex(np.uint64)
        self._last: Int64 = np.empty(0, dtype=np.int64)  # newest bucket in which a block drew
        self._ring = DemandRing(len(CLASSES))
        # Of all blocks, and of which version of the ring's sums.
        self._level: Int64 = np.empty((0, len(CLASSES)), dtype=np.int64)
        self._level_of = -1
        self.trend, self.reporting = Trend(len(CLASSES)), Reporting(len(CLASSES))
        self.forecast = Forecast(len(CLASSES))
        self._ahead: Int64 = np.zeros(
            (0, len(CLASSES)), dtype=np.int64
        )  # planned for beyond the level

    def __len__(self) -> int:
        return len(self.block_region)

    @property
    def block_region(self) -> Int32:
        self._settle()
        return self._block_region

    @property
    def block_hi(self) -> UInt64:
        self._settle()
        return self._block_hi

    @property
    def block_lo(self) -> UInt64:
        self._settle()
        return self._block_lo

    @property
    def starts(self) -> Int64:
        """int64[3]: sessions begun, ever."""
        self._settle()
        return self._starts

    @property
    def drawn_bytes(self) -> Int64:
        """int64[3]: wanted, ever."""
        self._settle()
        return self._bytes

    def to_bytes(self) -> Packed:
        """Keys of the blocks, rings and counters for a snapshot; what follows from the keys (the
        blocks' columns, the look-up) is made again."""
        self._settle()
        return pack(
            "demand",
            {
                "generation": self.generation,
                "window_ms": self._ring.window_ms,
                "bucket_ms": self._ring.bucket_ms,
                "starts": self._starts,
                "bytes": self._bytes,
                "key": self._index.column(0),
                "last": self._last,
                "held": self._ring.held,
                "ring": self._ring.drawn[:, : len(self)],
                **within("trend", self.trend.fields()),
                **within("reporting", self.reporting.fields()),
                **within("forecast", self.forecast.fields()),
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Demand":
        """The inverse of `to_bytes`."""
        demand, fields = cls(), unpack("demand", data)
        demand.generation, demand._last = fields["generation"], fields["last"]
        demand._starts, demand._bytes = fields["starts"], fields["bytes"]
        demand._ring = DemandRing.of(fields)
        demand.trend = Trend.of(fields.part("trend"))
        demand.reporting = Reporting.of(fields.part("reporting"))
        demand.forecast = Forecast.of(fields.part("forecast"))
        demand._look_ahead()
        demand._index = KeyIndex.of(fields["key"])
        demand._block_region, demand._block_hi, demand._block_lo = blocks_of(fields["key"])
        return demand

    def fold(
        self, rows: TopicRows, fleet: Fleet, now_ms: int, config: SteeringConfig, account: Account
    ) -> PlayRows | None:
        """Take over the rows of play.events; returns those that were folded; None: there were
        none."""
        frame = rows.frames.get("PlayEvent")
        if frame is None:
            return None
        checks = (screens.integers(frame, _LIMITS), *screens.times(frame, now_ms, config))
        kept = passing(rows.topic, frame.get_column(OFFSET).to_numpy(), checks, account)
        told = play_rows(frame, kept, fleet)
        account.fold(rows.topic, len(told.at_ms))
        if not len(told.at_ms):
            return None
        self._turn(now_ms, config)
        region, appliance = regions_of(told.appliance, fleet)
        bucket = np.minimum(told.at_ms, now_ms) // self._ring.bucket_ms
        current = self._ring.bucket(now_ms)
        late = bucket <= current - len(self._ring)
        account.note(Noted.LATE, int(late.sum()))
        account.note(Noted.UNPLACED_PLAY, int((appliance < 0).sum()))
        if late.any():
            region[late] = appliance[late] = -1
            bucket[late] = current
        waiting = self._waiting
        waiting.put(frame, kept, region, bucket, told.wanted, appliance, told.received)
        waiting.appliances = len(fleet.appliances)
        if waiting.rows >= MANY:
            self._settle()
        return told

    def level_bps(self, now_ms: int, blocks: Int64 | None = None) -> Int64:
        """int64[blocks, 3]: bits per second by class over the complete buckets of the window; of
        these blocks, or of all."""
        self._settle()
        ring = self._ring
        if not len(ring):
            return np.zeros((len(self) if blocks is None else len(blocks), len(CLASSES)), np.int64)
        whole, _ = ring.sums(now_ms, len(self))
        if self._level_of != ring.version:
            self._level, self._level_of = np.zeros(whole.shape, np.int64), ring.version
            some = np.flatnonzero(whole)  # a block draws of one class, or two
            total = whole.reshape(-1)[some]
            # total * 8000 // window without its overflow (np.divmod takes several times as long)
            seconds = total // ring.window_ms
            rest = total - seconds * ring.window_ms
            self._level.reshape(-1)[some] = seconds * 8000 + rest * 8000 // ring.window_ms
        return self._level.copy() if blocks is None else self._level[blocks]

    def planned_bps(self, now_ms: int, blocks: Int64 | None = None) -> Int64:
        """int64[blocks, 3]: what to have room for, the level and as much as it will have grown when
        a table made now has taken effect (trend.py)."""
        level = self.level_bps(now_ms, blocks)
        if len(self.trend.moving.block) or len(self.reporting.added):
            level += self._ahead[: len(self)] if blocks is None else self._ahead[blocks]
        return level

    def expected_bps(self, now_ms: int, blocks: Int64) -> Expected:
        """int64[blocks, 3] each: the level of these (distinct) blocks as it will be in a minute,
        and how far such forecasts were off (forecast.py)."""
        level = self.level_bps(now_ms, blocks)
        if len(self.reporting.added):
            level += grown(self._missing_bps(), len(self), 0)[blocks]
        ring = self._ring
        where = self.block_region[blocks], self.trend.moving, ring.apart_ms, ring.bucket_ms
        return self.forecast.of_blocks(blocks, level, *where)

    def expected_of(self, region: int) -> Expected:
        """int64[3] each: the same of a whole region (fleet id)."""
        expected = self.forecast.of_region(region, max(self._ring.bucket_ms, 1))
        if len(self.reporting.added):
            missing = self._missing_bps()
            missing = missing[self.block_region[: len(missing)] == region].sum(axis=0)
            level_bps, bps, error_bps = expected
            expected = Expected(level_bps + missing, bps + missing, error_bps)
        return expected

    def chance_bps(self, level_bps: Int64) -> Int64:
        """int64[3]: how much what draws this much may rise by chance."""
        if not len(self._ring):
            return np.zeros(len(CLASSES), np.int64)
        return self.trend.chance_bps(level_bps, self._ring.buckets, self._ring.bucket_ms)

    def learn(self, now_ms: int) -> bool:
        """Once for each bucket that is complete: how far demand wavers by itself, and what of it
        rises; whether there was one."""
        ring = self._ring
        if not len(ring) or not self.trend.turned(ring.bucket(now_ms)):
            return False
        self._settle()
        self._advance(now_ms)  # plays may have ceased
        sums, short = ring.sums(now_ms, len(self)), self.reporting.short
        current = ring.bucket(now_ms)
        self.trend.learn(*sums, ring.buckets, ring.bucket_ms, current, still=len(short) > 0)
        if len(short):  # plays that come back are no crowd
            self.trend.only(~np.isin(self.block_region[self.trend.moving.block], short))
        if self.trend.ready(ring.buckets):
            seen = Seen(*sums, ring.buckets, self.block_region, short)
            self.forecast.learn(seen, self.trend.moving, self.trend.noise, ring.bucket_ms, current)
        self._look_ahead()
        return True

    def listen(self, now_ms: int, heard: Heard) -> None:
        """Once for each bucket: whether plays still tell of all that is sent (reporting.py)."""
        self._settle()
        ring, current = self._ring, self._ring.bucket(now_ms)
        self.reporting.grow(len(ring), len(heard.fresh))
        if self.trend.ready(ring.buckets):
            sums = ring.sums(now_ms, len(self))
            drawn = Drawn(*sums, self.block_region, *ring.windows(current))
            self.reporting.judge(heard, drawn, float(self.trend.noise.max()), current)
            self._look_ahead()

    def compact(self, now_ms: int) -> bool:
        """Forget the blocks idle for IDLE_MS, once they are a quarter of all; whether it
        did. The ids of the others change. Looked at once for each bucket: in the same one a block
        can only cease to be idle."""
        ring = self._ring
        if not len(ring) or ring.bucket(now_ms) == self._tidied:
            return False
        self._settle()
        self._tidied = ring.bucket(now_ms)
        kept = np.flatnonzero(self._last > self._tidied - -(-IDLE_MS // ring.bucket_ms))
        if len(kept) == len(self) or 4 * len(kept) > 3 * len(self):
            return False
        keys = self._index.column(0)[kept]
        self._index = KeyIndex(np.uint64)
        self._index.intern(keys)
        ring.keep(kept)
        self.trend.renumber(kept)
        self.reporting.renumber(kept)
        self.forecast.renumber(kept)
        self._look_ahead()
        for column in ("_block_region", "_block_hi", "_block_lo", "_last"):
            setattr(self, column, getattr(self, column)[kept])
        self.generation += 1
        return True

    def _look_ahead(self) -> None:
        """Lay what is risen out by block."""
        ring, risen = self._ring, self.trend.risen
        self._ahead = np.zeros((ring.room, len(CLASSES)), np.int64)
        if not len(ring):
            return
        ahead_bps = risen.ahead_bps(ring.apart_ms, ring.bucket_ms)
        self._ahead[risen.block, risen.klass] = ahead_bps
        missing = self._missing_bps()
        self._ahead[: len(missing)] += missing

    def _missing_bps(self) -> Int64:
        """int64[blocks, 3], perhaps of the first blocks only: drawn, but not told by plays."""
        missing: Int64 = self.reporting.added * 8 // self._ring.window_ms * 1000
        return missing

    def _settle(self) -> None:
        """Add what waits."""
        if not self._waiting.rows:
            return
        starts, said, drawn = self._waiting.take(len(self._ring))
        self._starts += starts
        self.reporting.grow(len(self._ring), self._waiting.appliances)
        self.reporting.add(*said)
        self._add(drawn)

    def _add(self, drawn: Waited) -> None:
        """Add bytes to blocks, in cells class * slots + slot; each pair at most once."""
        keys, amount = drawn.keys, drawn.amount
        ids = self._index.find(keys)
        fresh = np.flatnonzero(ids < 0)
        if len(fresh):
            self._new_blocks(_in_order(keys[fresh], drawn.came[fresh]))
            ids[fresh] = self._index.find(keys[fresh])
        classes, slot = (
            part.astype(np.int64) for part in divmod(drawn.cell, _U64(len(self._ring)))
        )
        self._ring.add(slot, ids.astype(np.int64), classes, amount)
        for which in range(len(CLASSES)):
            self._bytes[which] += amount[classes == which].sum()
        np.maximum.at(self._last, ids, self._ring.held[slot])

    def _new_blocks(self, keys: UInt64) -> None:
        """Give ids to `keys` (new, each once), in this order."""
        self._index.intern(keys)
        region, hi, lo = blocks_of(keys)
        self._block_region = np.concatenate([self._block_region, region])
        self._block_hi = np.concatenate([self._block_hi, hi])
        self._block_lo = np.concatenate([self._block_lo, lo])
        self._last = np.concatenate([self._last, np.zeros(len(keys), dtype=np.int64)])
        if self._ring.grow(len(self)):
            self._look_ahead()

    def _turn(self, now_ms: int, config: SteeringConfig) -> None:
        """Be ready for rows of `now_ms`, in the window and buckets of this configuration."""
        ring, inputs = self._ring, config.inputs
        wanted = (inputs.demand_window_ms, inputs.demand_bucket_ms)
        if wanted != (ring.window_ms, ring.bucket_ms):
            self._settle()
            self._last = self._last * ring.bucket_ms // inputs.demand_bucket_ms
            ring.rebuild(*wanted)
            # what they know is by the bucket
            self.trend, self.reporting = Trend(len(CLASSES)), Reporting(len(CLASSES))
            self.forecast = Forecast(len(CLASSES))
        if self._waiting.oldest <= ring.bucket(now_ms) - len(ring):
            self._settle()  # what it belongs to leaves the ring
        self._advance(now_ms)

    def _advance(self, now_ms: int) -> None:
        """Turn the ring to `now_ms`."""
        for slot in self._ring.advance(now_ms):
            self.reporting.begin(slot)


def _in_order(keys: UInt64, came: Int64) -> UInt64:
    """Each of `keys` (ascending) once, by the first cut that it came with, then by itself."""
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return keys[first][np.argsort(np.minimum.reduceat(came, first), kind="stable")]
