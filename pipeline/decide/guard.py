"""The guard in front of a region's table: what is too strange to believe is held back (L7).

Rule: a change is held
- EMPTY_TABLE, if it would empty a table that is not empty: for as long as it would;
- MOVED_TOO_MUCH, if more than `moved_share_max` of the published prefixes would vanish or get
  another nearest site at once and nobody knows why: until the table is nearly what it was, or a
  cause comes, or it has stayed moved for HOLD_MS. A leak or a truncated feed is over by then or has
  been seen (the verdict is the alarm); a change that lasts is the new truth, and not to follow it
  would be wrong too.

A cause is: the inventory of sites, regions or networks changed, a BGP session of the region came up
or went down, or the configuration changed. Health is none: ranking does not depend on it. A table
that has just moved for a cause, or has just been built, is still settling (routes arrive over many
cuts): the guard watches only tables that have been quiet for SETTLE_MS, i.e. in which nothing
changed that touched more than a hundredth of the prefixes.

While a table is held nothing of it is removed or ranked anew, but shares go on reacting to
failures.

Sources: Espresso and Edge Fabric validate input against the previous result and fail
static; the two times are judgement: a full feed of a million routes takes some 10 s to arrive, an
operator needs seconds to see an alarm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.reasons import Reason

SETTLE_MS = 30_000
HOLD_MS = 10_000
_QUIET_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Move:
    """A proposed change: prefixes published now and after it; of the published ones those that
    `vanish_or_move`; `touched`: prefixes set or removed; `cause`: something explains it."""

    published: int
    after: int
    vanish_or_move: int
    touched: int
    cause: bool


@dataclass(slots=True)
class Guard:
    """One region's: held_reason is None while changes pass."""

    stirred_ms: int = 0
    held_ms: int = 0
    held_reason: Reason | None = None

    def fields(self) -> dict[str, int | str | None]:
        """All of it for a snapshot."""
        reason = self.held_reason
        return {
            "stirred_ms": self.stirred_ms,
            "held_ms": self.held_ms,
            "held_reason": None if reason is None else str(reason),
        }

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Guard":
        """The inverse of `fields`."""
        reason = fields["held_reason"]
        held = None if reason is None else Reason(reason)
        return cls(fields["stirred_ms"], fields["held_ms"], held)

    def settled(self, now_ms: int) -> bool:
        return now_ms - self.stirred_ms >= SETTLE_MS

    def judge(self, move: Move, now_ms: int, moved_share_max: float) -> bool:
        """Whether the change may pass now; `held_reason` tells why not."""
        reason = self._objection(move, now_ms, moved_share_max)
        if reason is None:
            self.held_reason = None
            if move.cause or move.touched > _QUIET_SHARE * move.published:
                self.stirred_ms = now_ms
            return True
        if self.held_reason is not reason:
            self.held_reason, self.held_ms = reason, now_ms
        return False

    def _objection(self, move: Move, now_ms: int, moved_share_max: float) -> Reason | None:
        if not move.published:
            return None
        if not move.after:
            return Reason.EMPTY_TABLE
        held_before = self.held_reason is Reason.MOVED_TOO_MUCH
        confirmed = held_before and now_ms - self.held_ms >= HOLD_MS
        watched = held_before or self.held_reason is not None or self.settled(now_ms)
        if move.cause or confirmed or not watched:
            return None
        too_much = move.vanish_or_move > moved_share_max * move.published
        return Reason.MOVED_TOO_MUCH if too_much else None
