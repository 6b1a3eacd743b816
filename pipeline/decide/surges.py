"""Which classes of a region surge, so that a flash crowd is told apart from noise and from growth:
verdicts of kind "demand", of entity region/CLASS.

Rule: client blocks whose demand rises beyond chance (state/trend.py) and is TIMES what it was half
a minute before make a flash crowd when they have grown by ENTER of all that the class draws in the
region, and by more than the region may grow by chance; it is over when that is less than LEAVE. It
is planned for from its first bucket on, told or not: the verdict says why the table moves.
"""

import numpy as np

from pipeline.decide.sites import CLASS_NAMES
from pipeline.effects import VerdictRow
from pipeline.reasons import Reason
from pipeline.state.ids import Int64
from pipeline.state.trend import Moving

#: Ten times within half a minute is 5.5 times from one half of the window to the other.
TIMES = 2
#: Hundredths of a class's demand: as much as a target of 95 % leaves room for, and less than half.
ENTER, LEAVE = 5, 2


class Surges:
    """`told` bool[3]: the classes that surge."""

    def __init__(self) -> None:
        self.told = np.zeros(len(CLASS_NAMES), np.bool_)

    def judge(
        self, region: str, risen: Moving, level_bps: Int64, chance_bps: Int64
    ) -> list[VerdictRow]:
        """What has begun and what is over; `risen` of this region, int64[3] of all of it: the
        level, and how much it may rise by chance."""
        many = np.flatnonzero(risen.after_bps >= TIMES * risen.before_bps)
        count, before, after = (np.zeros(len(CLASS_NAMES), np.int64) for _ in range(3))
        np.add.at(count, risen.klass[many], 1)
        np.add.at(before, risen.klass[many], risen.before_bps[many])
        np.add.at(after, risen.klass[many], risen.after_bps[many])
        begins = np.maximum(level_bps * ENTER // 100, chance_bps)
        now = after - before > np.where(self.told, level_bps * LEAVE // 100, begins)
        rows = []
        for klass in np.flatnonzero(now != self.told).tolist():
            states = ("SURGING", "STEADY") if self.told[klass] else ("STEADY", "SURGING")
            reason = Reason.RELIEVED if self.told[klass] else Reason.FLASH_CROWD
            detail = (
                f"{count[klass]} client blocks from {before[klass]} to {after[klass]} bps within "
                "half a minute"
            )
            entity = f"{region}/{CLASS_NAMES[klass]}"
            rows.append(VerdictRow("demand", entity, *states, reason, detail))
        self.told = now
        return rows
