"""What plays say of the appliances that serve them: how much was wanted of each, how much came.

Idea: an appliance that lies or does not know how it is doing is known to those whom it serves.
Four sums per appliance in a ring of time buckets are enough to compare it with its peers, and to
know what a site is asked for, which no appliance can say (one that is asked for more than it can
send reports what it sends).
Rule: rows go by their own time into buckets of BUCKET_MS. A stall is missed: its time at the play's
bitrate (state/demand.py). `recent` is what all buckets of the ring hold, `wanted_bps` what the
complete ones do. What is older than the ring has no effect (state/demand.py counts it).
A session that fails over left the appliance that its event names. Not used: startup, since who has
just come back serves nothing but starts.
"""

import numpy as np

from pipeline.state.codec import Packed, pack, unpack
from pipeline.state.fleet import Fleet
from pipeline.state.ids import Int64, grown
from pipeline.state.playrows import PlayRows

#: Heartbeats come every 10 s (simulated) to 30 s (CMCD's default): half a minute of them, in
#: buckets short enough that what has just begun outweighs what was.
BUCKET_MS, BUCKETS = 10_000, 4
_SUMS = ("plays", "left", "wanted", "missed")


class Plays:
    """Sums by the fleet's appliance id (`sync` brings them to its length), in bytes; bucket number
    % BUCKETS is a bucket's slot."""

    plays: Int64  # [BUCKETS, n]: events that brought or missed anything, or left
    left: Int64  # of these events, those of sessions that failed over from it
    wanted: Int64
    missed: Int64  # of what was wanted

    def __init__(self) -> None:
        self._held: Int64 = np.full(BUCKETS, -1, dtype=np.int64)  # bucket number in each slot
        for name in _SUMS:
            setattr(self, name, np.zeros((BUCKETS, 0), dtype=np.int64))

    def to_bytes(self) -> Packed:
        """All of it for a snapshot; nothing is left to be made again."""
        return pack("plays", {"held": self._held, **{name: getattr(self, name) for name in _SUMS}})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Plays":
        """The inverse of `to_bytes`."""
        plays, fields = cls(), unpack("plays", data)
        plays._held = fields["held"]
        for name in _SUMS:
            setattr(plays, name, fields[name])
        return plays

    def sync(self, fleet: Fleet) -> None:
        """Bring every sum to the length of the fleet."""
        size = len(fleet.appliances)
        if self.plays.shape[1] < size:
            for name in _SUMS:
                setattr(self, name, grown(getattr(self, name).T, size, 0).T.copy())

    def fold(self, told: PlayRows, fleet: Fleet, now_ms: int) -> None:
        """Take over accepted plays."""
        self.sync(fleet)
        self._turn(now_ms)
        row, left, received, wanted, at_ms = told
        bucket = np.minimum(at_ms, now_ms) // BUCKET_MS
        counted = np.flatnonzero(
            (row >= 0) & ((wanted > 0) | left) & (bucket > now_ms // BUCKET_MS - BUCKETS)
        )
        size = self.plays.shape[1]
        place = bucket[counted] % BUCKETS * size + row[counted]
        amount = wanted[counted]
        missed = amount - received[counted]
        stalled, gone = np.flatnonzero(missed), np.flatnonzero(left[counted])
        self.plays += np.bincount(place, minlength=BUCKETS * size).reshape(BUCKETS, size)
        np.add.at(self.left.reshape(-1), place[gone], 1)
        np.add.at(self.wanted.reshape(-1), place, amount)
        np.add.at(self.missed.reshape(-1), place[stalled], missed[stalled])

    def recent(self, now_ms: int) -> tuple[Int64, Int64, Int64, Int64]:
        """(plays, left, wanted, missed) int64[n] each, over the ring as of `now_ms`."""
        live = self._held > now_ms // BUCKET_MS - BUCKETS
        plays, left, wanted, missed = (getattr(self, name)[live].sum(axis=0) for name in _SUMS)
        return plays, left, wanted, missed

    def wanted_bps(self, now_ms: int) -> Int64:
        """int64[n]: what plays want of each appliance, over the complete buckets."""
        current = now_ms // BUCKET_MS
        whole = (self._held > current - BUCKETS) & (self._held < current)
        total: Int64 = self.wanted[whole].sum(axis=0)
        return total * 8000 // (BUCKET_MS * (BUCKETS - 1))

    def _turn(self, now_ms: int) -> None:
        """Turn the ring to `now_ms`: slots that hold what has left it begin anew."""
        current = now_ms // BUCKET_MS
        for number in range(current - BUCKETS + 1, current + 1):
            slot = number % BUCKETS
            if self._held[slot] != number:
                self._held[slot] = number
                for name in _SUMS:
                    getattr(self, name)[slot] = 0
