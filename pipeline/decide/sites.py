"""What is remembered of each site, so that a change of mind can be told: verdicts of kind "site".

Three things can change: which classes it may serve (from and to: the classes, joined by "+", or
NONE); what its weights rest on (Spread); and how its projected load stands (Load). A worse Load is
told at once; a better one only when it has lasted `saturated_leave_after_ms`, so that demand that
wavers about the target does not fill the log. Shares follow the solution itself and do not wait for
this."""

from collections.abc import Iterable, Sequence
from enum import IntEnum

import numpy as np

from pipeline.decide.assignment import CLASSES, I64, NO_ROOM, Bools
from pipeline.decide.eligibility import REASON_OF_STATUS, Eligibility
from pipeline.decide.serving import U8
from pipeline.decide.shares import SiteLoad
from pipeline.decide.units import load_bps
from pipeline.decide.weights import Spread, Weighed
from pipeline.effects import VerdictRow
from pipeline.reasons import Reason
from pipeline.state.codec import Packed, pack, unpack
from pipeline.state.ids import grown

CLASS_NAMES = ("VOD", "LIVE", "GAME")
_NEVER = 255


class Load(IntEnum):
    """How a site's projected load stands; of several the highest."""

    ROOM = 0
    TAKING = 1  # some of its load is spill-over from nearer sites
    SPILLING = 2  # full: what is above target went elsewhere
    OVERFLOWING = 3  # above target, and no site with room


_REASON_OF_LOAD = {
    Load.TAKING: Reason.SPILL_OVER,
    Load.SPILLING: Reason.SITE_FULL,
    Load.OVERFLOWING: Reason.OVERFLOW,
}
_REASON_OF_SPREAD = {
    Spread.PANIC: Reason.PANIC,
    Spread.LAST_GOOD: Reason.HELD,
    Spread.BY_HEALTH: Reason.RELEASED,
}


class SiteMemory:
    """Columns by site id, grown with the fleet."""

    def __init__(self) -> None:
        self.status = np.empty((0, CLASSES), np.uint8)
        self.load_state = np.empty(0, np.uint8)
        self._better_since_ms: I64 = np.empty(0, np.int64)
        self._panic = np.empty((0, CLASSES), np.bool_)
        self._spread: dict[int, Spread] = {}

    def to_bytes(self) -> Packed:
        """All of it for a snapshot; nothing is left to be made again."""
        spread = sorted(self._spread.items())
        return pack(
            "sites",
            {
                "status": self.status,
                "load_state": self.load_state,
                "better_since_ms": self._better_since_ms,
                "panic": self._panic,
                "spread": [[site, str(basis)] for site, basis in spread],
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "SiteMemory":
        """The inverse of `to_bytes`."""
        memory, fields = cls(), unpack("sites", data)
        memory.status, memory.load_state = fields["status"], fields["load_state"]
        memory._better_since_ms, memory._panic = fields["better_since_ms"], fields["panic"]
        memory._spread = {site: Spread(basis) for site, basis in fields["spread"]}
        return memory

    def grow(self, sites: int) -> None:
        """Make room for this many sites."""
        self.status = grown(self.status, sites, _NEVER)
        self._panic = grown(self._panic, sites, 0)
        self.load_state = grown(self.load_state, sites, Load.ROOM)
        self._better_since_ms = grown(self._better_since_ms, sites, 0)

    def weighed(self, names: Sequence[str], found: Iterable[Weighed]) -> list[VerdictRow]:
        """Remember what weights rest on. The first time there is nothing to compare with."""
        rows = []
        for one in found:
            before = self._spread.get(one.site, one.spread)
            self._spread[one.site] = one.spread
            if before is not one.spread:
                reason = _REASON_OF_SPREAD[one.spread]
                detail = f"{one.healthy} of {one.counted} healthy"
                rows.append(
                    VerdictRow(
                        "site", names[one.site], str(before), str(one.spread), reason, detail
                    )
                )
        return rows

    def eligibility(
        self, names: Sequence[str], alive: Bools, now: Eligibility
    ) -> tuple[Bools, list[VerdictRow]]:
        """Remember who may serve what: bool[S] of the sites whose status changed, and the
        verdicts."""
        before, panic = self.status, self._panic
        changed: Bools = np.asarray((now.status != before).any(axis=1))
        told = changed | (now.panic != panic).any(axis=1)
        rows = []
        for site in np.flatnonzero(told & alive).tolist():
            old, new = _classes(before[site]), _classes(now.status[site])
            if old != new or (now.panic[site] != panic[site]).any():
                reason = _why(before[site], now.status[site], now.panic[site])
                detail = f"{now.site_bps[site]} bps usable"
                rows.append(VerdictRow("site", names[site], old, new, reason, detail))
        self.status, self._panic = now.status, now.panic
        return changed, rows

    def loads(
        self,
        names: Sequence[str],
        members: Bools,
        draining: Bools,
        load: SiteLoad,
        now_ms: int,
        patience_ms: int,
    ) -> list[VerdictRow]:
        """Remember how the load of the sites marked in `members` stands; `draining` marks those
        that are full because an operator admits no more."""
        state = np.where(load.taking, Load.TAKING, Load.ROOM)
        state = np.where(load.spilled, Load.SPILLING, state)
        state = np.where(load.overflow > 0, Load.OVERFLOWING, state).astype(np.uint8)
        better = members & (state < self.load_state)
        since = np.where(self._better_since_ms == 0, now_ms, self._better_since_ms)
        since = np.where(better, since, 0)
        self._better_since_ms = np.where(members, since, self._better_since_ms)
        lasted = better & (now_ms - self._better_since_ms >= patience_ms)
        rows = []
        for site in np.flatnonzero(members & ((state > self.load_state) | lasted)).tolist():
            old, new = Load(self.load_state[site]), Load(state[site])
            calm = Reason.NEAREST if old is Load.TAKING else Reason.RELIEVED
            reason = _REASON_OF_LOAD.get(new, calm)
            if new is Load.SPILLING and draining[site]:
                reason = Reason.DRAINING
            bps = load_bps(int(load.load[site].sum()))
            over = load_bps(int(load.overflow[site]))
            detail = f"{bps} bps projected, {over} bps without room"
            price = int(load.price[site].max())
            if price:
                detail += ", no room anywhere" if price == NO_ROOM else f", price {price}"
            rows.append(VerdictRow("site", names[site], old.name, new.name, reason, detail))
            self.load_state[site] = new
            self._better_since_ms[site] = 0
        return rows


def _classes(status: U8) -> str:
    able = [name for name, code in zip(CLASS_NAMES, status.tolist(), strict=True) if not code]
    return "+".join(able) or "NONE"


def _why(before: U8, after: U8, panic: Bools) -> Reason:
    """The Reason of the first class that was lost; else why the others may serve now."""
    for old, new in zip(before.tolist(), after.tolist(), strict=True):
        if not old and new:
            return REASON_OF_STATUS[new]
    return Reason.PANIC if panic.any() else Reason.PROMOTED
