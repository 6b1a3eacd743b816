"""How much of each link is used: one row per link id of the fleet.

Rule: as for appliances: samples of one link are folded in the order of the log, each smoothing the
one before by a quarter; a sample older than what is known is counted and changes nothing. A link
that has not been heard of for long still has its capacity: that somebody measures it is no
condition for using it. Integers throughout.
Which client goes by which link nobody tells. But what a site sends goes by its links in some
mixture, and so the fullest of them says how much more of it fits: after a cut, a site may be full
with half of its links idle. The mixture changes with what is planned, and is measured anew.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.config import SteeringConfig
from pipeline.reasons import Noted, Refusal
from pipeline.state import screens
from pipeline.state.codec import Packed, pack, unpack
from pipeline.state.fleet import Fleet
from pipeline.state.ids import Int32, Int64, grown, rounds
from pipeline.wire.rows import OFFSET, Account, Check, TopicRows, passing

FULL = 10_000
#: Use of the fullest link (ten-thousandths) from which the mixture of links is believed, and fully.
TELLS_FROM, TELLS_FULLY = 1_000, 3_000
SMOOTHING = 4  # a new sample counts a quarter, as in health.py
ROUNDS_MAX = 100  # samples of one link folded one by one in a cut; of more, the newest
_LIMITS = (
    ("used_bps", screens.BPS_MAX),
    ("capacity_bps", screens.BPS_MAX),
    ("drops", screens.COUNT_MAX),
)
_COLUMNS = ("last_at_ms", "used_bps", "capacity_bps", "drops", "dropped")


class Links:
    """Columns by the fleet's link id (`sync` brings them to its length)."""

    last_at_ms: (
        Int64  # of the newest sample, by its publisher's clock, never ahead of the cut; 0 never
    )
    used_bps: Int64  # smoothed
    capacity_bps: Int64  # as measured; 0: not told
    drops: Int64  # packets, in the newest sample
    dropped: Int64  # packets, ever

    def __init__(self) -> None:
        for column in _COLUMNS:
            setattr(self, column, np.empty(0, dtype=np.int64))

    def to_bytes(self) -> Packed:
        """All of it for a snapshot; nothing is left to be made again."""
        return pack("links", {column: getattr(self, column) for column in _COLUMNS})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Links":
        """The inverse of `to_bytes`."""
        links, fields = cls(), unpack("links", data)
        for column in _COLUMNS:
            setattr(links, column, fields[column])
        return links

    def sync(self, fleet: Fleet) -> None:
        """Bring every column to the length of the fleet's links."""
        for column in _COLUMNS:
            setattr(self, column, grown(getattr(self, column), len(fleet.links), 0))

    def fold(
        self, rows: TopicRows, fleet: Fleet, now_ms: int, config: SteeringConfig, account: Account
    ) -> None:
        """Take over the rows of traffic.links."""
        self.sync(fleet)
        frame = rows.frames.get("LinkSample")
        if frame is None:
            return
        row = fleet.links.index(frame.get_column("link"))
        offsets = frame.get_column(OFFSET).to_numpy()
        checks = _checks(frame, row, fleet, now_ms, config)
        kept = passing(rows.topic, offsets, checks, account)
        columns = {
            name: frame.get_column(name).to_numpy()[kept]
            for name in ("at_ms", "used_bps", "capacity_bps", "drops")
        }
        columns["row"] = row[kept]
        account.fold(rows.topic, len(columns["row"]))
        parts, left_out = rounds(columns["row"], ROUNDS_MAX)
        account.note(Noted.LATE, len(left_out))
        for part in parts:
            self._samples({name: column[part] for name, column in columns.items()}, account)
        np.minimum(self.last_at_ms, now_ms, out=self.last_at_ms)

    def _samples(self, news: dict[str, npt.NDArray[np.int64]], account: Account) -> None:
        """Fold at most one sample of each link."""
        last = self.last_at_ms[news["row"]]
        account.note(Noted.DUPLICATE, int((news["at_ms"] == last).sum()))
        account.note(Noted.REORDERED, int((news["at_ms"] < last).sum()))
        newer = news["at_ms"] > last
        rows, used = news["row"][newer], news["used_bps"][newer]
        before = self.used_bps[rows]
        smoothed = before + (used - before) // SMOOTHING
        self.used_bps[rows] = np.where(self.last_at_ms[rows] == 0, used, smoothed)
        self.capacity_bps[rows] = news["capacity_bps"][newer]
        self.drops[rows] = news["drops"][newer]
        self.dropped[rows] += news["drops"][newer]
        self.last_at_ms[rows] = news["at_ms"][newer]

    def link_capacity_bps(self, fleet: Fleet) -> Int64:
        """int64[links]: the lesser of what inventory and samples say; a measured 0 says nothing."""
        self.sync(fleet)
        known = fleet.link_capacity_bps
        return np.where(self.capacity_bps > 0, np.minimum(self.capacity_bps, known), known)

    def site_link_capacity_bps(self, fleet: Fleet) -> Int64:
        """int64[sites]: what leaves by the site's links over how full the fullest of them is with
        that (where they are all but idle, their sum); -1 where it has none in the inventory."""
        live = np.flatnonzero(fleet.link_alive)
        capacity, site = self.link_capacity_bps(fleet)[live], fleet.link_site[live]
        used = np.minimum(self.used_bps[live], capacity)
        number, room, sent, fullest = np.zeros((4, len(fleet.sites)), dtype=np.int64)
        np.add.at(number, site, 1)
        np.add.at(room, site, capacity)
        np.add.at(sent, site, used)
        np.maximum.at(fullest, site, used * FULL // np.maximum(capacity, 1))
        told = np.clip(fullest - TELLS_FROM, 0, TELLS_FULLY - TELLS_FROM)
        unlike = room - sent * FULL // np.maximum(fullest, TELLS_FROM)
        found = room - unlike * told // (TELLS_FULLY - TELLS_FROM)
        return np.where(number > 0, np.clip(found, 0, room), -1)


def _checks(
    frame: pl.DataFrame, row: Int32, fleet: Fleet, now_ms: int, config: SteeringConfig
) -> list[Check]:
    unknown = ~np.append(fleet.link_alive, np.False_)[row]
    return [
        (Refusal.BAD_ID, fleet.links.strangers(frame.get_column("link"), row)),
        (Refusal.UNKNOWN_LINK, unknown),
        screens.integers(frame, _LIMITS),
        *screens.times(frame, now_ms, config),
    ]
