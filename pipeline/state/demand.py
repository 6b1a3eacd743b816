"""How much each client network wants, by traffic class: bytes per block in a ring of time buckets.

Idea: a million plays a second end up in a few thousand numbers, so a row must cost no Python
object and be looked up only after the rows of one block have been added up. A block is a /24 of
IPv4 or a /48 of IPv6 in a region: with its region it packs into one 64-bit key.
What a play wants is what it received and what a stall kept from it: bitrate x stall. By what
arrives alone a full site would look as if it were asked for just what it can send, and nothing
would ever be planned elsewhere (docs/adr/0025).
Rule: rows go by their own time into buckets of demand_bucket_ms; the level is what the complete
buckets of the last demand_window_ms hold. What is older than the ring is counted and folded
without effect; a clock ahead counts as now. A play belongs to the region of the appliance that
served it; if the inventory does not name that, to the cell's region when it has just one, else to
none. All sums are of integers, so neither order nor threads change them; new blocks get their ids
in the order of their keys.
Measured on a busy 2-core machine, half a million rows at once: 0.12 us a row over 4,000 blocks,
0.15 over 100,000.
Rejected: a decayed sum (the past would change with the order of arrival); a window that ends now
(its newest bucket is never full, so demand would look too low by half a bucket).
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.config import SteeringConfig
from pipeline.reasons import Noted
from pipeline.state import screens
from pipeline.state.codec import Packed, pack, unpack
from pipeline.state.fleet import CLASSES, Fleet
from pipeline.state.ids import Bool, Int32, Int64, UInt64
from pipeline.state.keyindex import KeyIndex, distinct
from pipeline.wire.address import halves
from pipeline.wire.rows import OFFSET, Account, TopicRows, passing

#: What a stall kept from a play counts for so much of it: more is no report of a heartbeat's time.
STALL_MAX_MS = 60_000
#: A block that nobody was served in for so long is forgotten (at the next compaction).
IDLE_MS = 600_000

_U64 = np.uint64
_LIMITS = (
    ("bytes", screens.BYTES_MAX),
    ("bitrate_bps", screens.BPS_MAX),
    ("startup_ms", screens.COUNT_MAX),
    ("stall_ms", screens.COUNT_MAX),
)
# A key: region from bit 49 up; bit 48 for IPv4; below it the block's bits.
_REGION, _V4, _BLOCK_BITS = _U64(49), _U64(1) << _U64(48), (_U64(1) << _U64(48)) - _U64(1)
_MAPPED = _U64(0xFFFF)


class Demand:
    """Blocks by dense id: block_region int32, block_hi, block_lo uint64 (first address).

    `generation` changes whenever the ids of blocks have changed their meaning (compact).
    """

    def __init__(self) -> None:
        self.block_region: Int32 = np.empty(0, dtype=np.int32)
        self.block_hi: UInt64 = np.empty(0, dtype=np.uint64)
        self.block_lo: UInt64 = np.empty(0, dtype=np.uint64)
        self.generation = 0
        self.starts: Int64 = np.zeros(len(CLASSES), dtype=np.int64)  # sessions begun, ever
        self.bytes: Int64 = np.zeros(len(CLASSES), dtype=np.int64)  # wanted, ever
        self._index = KeyIndex(np.uint64)
        self._last: Int64 = np.empty(0, dtype=np.int64)  # newest bucket in which a block drew
        self._window_ms = self._bucket_ms = 0
        self._held: Int64 = np.empty(0, dtype=np.int64)  # bucket number that each slot holds
        #: bytes [slot, block, class]; more rows than there are blocks.
        self._ring: Int64 = np.zeros((0, 0, len(CLASSES)), dtype=np.int64)
        # Bytes [block, class] in the complete buckets as seen from bucket _whole_at: what every
        # level is taken from. It follows from the ring and is kept up with what is added.
        self._whole: Int64 = np.zeros((0, len(CLASSES)), dtype=np.int64)
        self._whole_at = -1

    def __len__(self) -> int:
        return len(self.block_region)

    def to_bytes(self) -> Packed:
        """Keys of the blocks, rings and counters for a snapshot; what follows from the keys (the
        blocks' columns, the look-up) is made again."""
        return pack(
            "demand",
            {
                "generation": self.generation,
                "window_ms": self._window_ms,
                "bucket_ms": self._bucket_ms,
                "starts": self.starts,
                "bytes": self.bytes,
                "key": self._index.column(0),
                "last": self._last,
                "held": self._held,
                "ring": self._ring[:, : len(self)],
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Demand":
        """The inverse of `to_bytes`."""
        demand, fields = cls(), unpack("demand", data)
        demand.generation, demand._last = fields["generation"], fields["last"]
        demand._window_ms, demand._bucket_ms = fields["window_ms"], fields["bucket_ms"]
        demand.starts, demand.bytes = fields["starts"], fields["bytes"]
        demand._held, demand._ring = fields["held"], fields["ring"]
        demand._index = KeyIndex.of(fields["key"])
        demand.block_region, demand.block_hi, demand.block_lo = _blocks(fields["key"])
        return demand

    def fold(
        self, rows: TopicRows, fleet: Fleet, now_ms: int, config: SteeringConfig, account: Account
    ) -> Bool | slice | None:
        """Take over the rows of play.events; returns which were folded, as an index into columns;
        None: there were none."""
        frame = rows.frames.get("PlayEvent")
        if frame is None:
            return None
        checks = (screens.integers(frame, _LIMITS), *screens.times(frame, now_ms, config))
        kept = passing(rows.topic, frame.get_column(OFFSET).to_numpy(), checks, account)
        region, unplaced = regions_of(frame.get_column("appliance"), fleet)
        keys = _keys(frame.get_column("client"), region)[kept]
        region, unplaced = region[kept], unplaced[kept]
        account.fold(rows.topic, len(keys))
        if not len(keys):
            return None
        self._turn(now_ms, config)
        codes = frame.select(pl.col("traffic_class", "event").to_physical())
        classes, event = (column.to_numpy()[kept] for column in codes)
        started = event == 0
        self.starts += np.bincount(classes[started], minlength=len(CLASSES))
        at_ms = np.minimum(frame.get_column("at_ms").to_numpy()[kept], now_ms)
        bucket = at_ms // self._bucket_ms
        late = bucket <= now_ms // self._bucket_ms - len(self._held)
        account.note(Noted.LATE, int(late.sum()))
        account.note(Noted.UNPLACED_PLAY, int(unplaced.sum()))
        slot = bucket % len(self._held)
        cell = classes.astype(np.uint64) * _U64(len(self._held)) + slot.astype(np.uint64)
        amount = wanted_bytes(frame)[kept]
        lost = late | (region < 0)
        if lost.any():
            keys, cell, amount = keys[~lost], cell[~lost], amount[~lost]
        self._add(*_sums(keys, cell, amount, len(CLASSES) * len(self._held)))
        return kept

    def level_bps(self, now_ms: int, blocks: Int64 | None = None) -> Int64:
        """int64[blocks, 3]: bits per second by class over the complete buckets of the window; of
        these blocks, or of all."""
        if not self._bucket_ms:
            return np.zeros((len(self) if blocks is None else len(blocks), len(CLASSES)), np.int64)
        self._look_from(now_ms // self._bucket_ms)
        total = self._whole[: len(self)] if blocks is None else self._whole[blocks]
        # total * 8000 // window without its overflow (np.divmod takes several times as long)
        seconds = total // self._window_ms
        rest = total - seconds * self._window_ms
        level: Int64 = seconds * 8000 + rest * 8000 // self._window_ms
        return level

    def compact(self, now_ms: int) -> bool:
        """Forget the blocks idle for IDLE_MS, once they are a quarter of all; whether it
        did. The ids of the others change."""
        if not self._bucket_ms:
            return False
        kept = np.flatnonzero(self._last * self._bucket_ms > now_ms - IDLE_MS)
        if 4 * len(kept) > 3 * len(self):
            return False
        keys = self._index.column(0)[kept]
        self._index = KeyIndex(np.uint64)
        self._index.intern(keys)
        self._ring = self._ring.take(kept, axis=1)
        self._whole_at = -1
        for column in ("block_region", "block_hi", "block_lo", "_last"):
            setattr(self, column, getattr(self, column)[kept])
        self.generation += 1
        return True

    def _complete(self, current: int) -> npt.NDArray[np.bool_]:
        """Which slots hold a complete bucket of the window, as seen from bucket `current`."""
        return (self._held < current) & (self._held > current - len(self._held))

    def _look_from(self, current: int) -> None:
        """Bring `_whole` to bucket `current`: only buckets that begin or cease to count are looked
        at."""
        if current == self._whole_at:
            return
        now = self._complete(current)
        if self._whole_at < 0:
            self._whole, before = np.zeros(self._ring.shape[1:], np.int64), np.zeros_like(now)
        else:
            before = self._complete(self._whole_at)
        for slot in np.flatnonzero(now & ~before).tolist():
            self._whole += self._ring[slot]
        for slot in np.flatnonzero(before & ~now).tolist():
            self._whole -= self._ring[slot]
        self._whole_at = current

    def _add(self, keys: UInt64, cell: UInt64, amount: Int64) -> None:
        """Add `amount` bytes to blocks, in cells class * slots + slot; each pair at most once."""
        ids = self._index.find(keys)
        fresh = np.flatnonzero(ids < 0)
        if len(fresh):
            first, new = len(self), distinct(keys[fresh])
            self._new_blocks(new)
            ids[fresh] = first + np.searchsorted(new, keys[fresh])
        classes, slot = (part.astype(np.int64) for part in divmod(cell, _U64(len(self._held))))
        room = self._ring.shape[1]  # flat places: three indices take three times as long
        self._ring.reshape(-1)[(slot * room + ids) * len(CLASSES) + classes] += amount
        if self._whole_at >= 0:
            late = np.flatnonzero(self._complete(self._whole_at)[slot])
            where = ids[late].astype(np.int64) * len(CLASSES) + classes[late]
            np.add.at(self._whole.reshape(-1), where, amount[late])
        for which in range(len(CLASSES)):
            self.bytes[which] += amount[classes == which].sum()
        np.maximum.at(self._last, ids, self._held[slot])

    def _new_blocks(self, keys: UInt64) -> None:
        """Give ids to `keys` (ascending, new)."""
        self._index.intern(keys)
        region, hi, lo = _blocks(keys)
        self.block_region = np.concatenate([self.block_region, region])
        self.block_hi = np.concatenate([self.block_hi, hi])
        self.block_lo = np.concatenate([self.block_lo, lo])
        self._last = np.concatenate([self._last, np.zeros(len(keys), dtype=np.int64)])
        slots, room, width = self._ring.shape
        if room < len(self):
            ring = np.zeros((slots, max(len(self), room * 3 // 2), width), dtype=np.int64)
            ring[:, :room] = self._ring
            self._ring = ring
            self._whole_at = -1

    def _turn(self, now_ms: int, config: SteeringConfig) -> None:
        """Turn the ring to `now_ms`: slots that hold what has left it begin anew."""
        wanted = (config.inputs.demand_window_ms, config.inputs.demand_bucket_ms)
        if wanted != (self._window_ms, self._bucket_ms):
            self._rebuild(*wanted)
        current, slots = now_ms // self._bucket_ms, len(self._held)
        if self._whole_at >= 0:
            self._look_from(current)  # while the ring still holds what has left it
        for number in range(max(int(self._held.max()) + 1, current - slots + 1), current + 1):
            self._ring[number % slots] = 0
            self._held[number % slots] = number

    def _rebuild(self, window_ms: int, bucket_ms: int) -> None:
        """Another window or bucket: what is in the ring moves to where its buckets begin."""
        held, ring, was_ms = self._held, self._ring, self._bucket_ms
        self._whole_at = -1
        slots = -(-window_ms // bucket_ms) + 1
        self._window_ms, self._bucket_ms = window_ms, bucket_ms
        self._held = np.full(slots, -1, dtype=np.int64)
        self._ring = np.zeros((slots, ring.shape[1], len(CLASSES)), dtype=np.int64)
        if not len(held):
            return
        newest = int(held.max()) * was_ms // bucket_ms
        self._held[np.arange(newest - slots + 1, newest + 1) % slots] = np.arange(
            newest - slots + 1, newest + 1
        )
        for slot, number in enumerate(held.tolist()):
            moved = number * was_ms // bucket_ms
            if number >= 0 and moved > newest - slots:
                self._ring[moved % slots] += ring[slot]
        self._last = self._last * was_ms // bucket_ms


def wanted_bytes(frame: pl.DataFrame) -> Int64:
    """Of each play: what it received, and what it would have received in the time it stalled."""
    received, bitrate, stall = (
        frame.get_column(name).to_numpy() for name in ("bytes", "bitrate_bps", "stall_ms")
    )
    stalled = np.flatnonzero(stall > 0)
    if not len(stalled):
        return received
    wanted: Int64 = received.copy()
    stalled_ms = np.minimum(stall[stalled], STALL_MAX_MS)
    bitrate_bps = np.clip(bitrate[stalled], 0, screens.BPS_MAX)
    wanted[stalled] += np.minimum(bitrate_bps * stalled_ms // 8000, screens.BYTES_MAX)
    return wanted


def _blocks(keys: UInt64) -> tuple[Int32, UInt64, UInt64]:
    """Region, hi and lo of the blocks of these keys."""
    v4 = (keys & _V4) != 0
    bits = keys & _BLOCK_BITS
    hi = np.where(v4, _U64(0), bits << _U64(16))
    lo = np.where(v4, (_MAPPED << _U64(32)) | (bits << _U64(8)), _U64(0))
    return (keys >> _REGION).astype(np.int32), hi, lo


def regions_of(appliances: pl.Series, fleet: Fleet) -> tuple[Int32, npt.NDArray[np.bool_]]:
    """(region id of each play, -1 none; mask of those whose appliance is not in the inventory)."""
    alive = np.flatnonzero(fleet.region_alive)
    fallback = int(alive[0]) if len(alive) == 1 else -1
    row = fleet.appliances.index(appliances)
    # One row more than there are appliances, for those that have no id: index -1 finds it.
    live = np.append(fleet.live_appliances(), False)
    placed = live[row]
    of_appliance = np.append(fleet.site_region[fleet.appliance_site], np.int32(-1))
    return np.where(live, of_appliance, np.int32(fallback))[row], ~placed


def _sums(keys: UInt64, cell: UInt64, amount: Int64, cells: int) -> tuple[UInt64, UInt64, Int64]:
    """Bytes added up by (key, cell < cells), in that order. Key and cell are sorted as one number
    wherever regions times cells stay below 2**15."""
    if not len(keys):
        return keys, cell, amount
    if int(keys.max() >> _REGION) + 1 <= (1 << 15) // cells:
        order = np.argsort(keys * _U64(cells) + cell)
    else:
        order = np.lexsort((cell, keys))
    keys, cell = keys[order], cell[order]
    first = np.ones(len(keys), dtype=np.bool_)
    first[1:] = (keys[1:] != keys[:-1]) | (cell[1:] != cell[:-1])
    start = np.flatnonzero(first)
    return keys[start], cell[start], np.add.reduceat(amount[order], start)


def _keys(clients: pl.Series, region: Int32) -> UInt64:
    """The key of each client's block."""
    hi, lo = halves(clients)
    v4 = (hi == 0) & ((lo >> _U64(32)) == _MAPPED)
    block = np.where(v4, _V4 | ((lo >> _U64(8)) & _U64(0xFFFFFF)), hi >> _U64(16))
    return (region.astype(np.uint64) << _REGION) | block
