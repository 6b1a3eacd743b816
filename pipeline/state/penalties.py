"""Penalties of what flaps: they add up, decay by half-lives, and suppress between two limits.

Idea: few of all routes flap, so penalties are kept for those alone. When a suppressed one is to be
let go follows from its penalty, so that moment is worked out once, when something is added; only
what is suppressed is looked at at each cut.
Rule: a penalty from `suppress` on suppresses until it has decayed below `reuse`. Below half of
`reuse` it is forgotten (RFC 2439 4.8.7). More than `most` it never is: that limits for how long.
Decay: halved for every half-life that has passed, in between along a straight line: integers, at
most 6 % above the exponential.
Rejected: a timer for each (RFC 2439's reuse lists: a clock of their own); a row for every route
(16 bytes of each of millions); exp (other last bits on other machines).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.state.codec import Fields
from pipeline.state.keyindex import KeyIndex, grown

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Four half-lives: FRR's max-suppress of 60 minutes at its half-life of 15.
PENALTY_CEILING = 16
#: Fewer are not worth looking through for some to forget.
_FEW = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a penalty suppresses, below what it no longer does, how fast it decays, the
    most that it comes to."""

    suppress: int
    reuse: int
    half_life_ms: int
    most: int


def decayed(penalty: Int64, at_ms: Int64, now_ms: int, half_life_ms: int) -> Int64:
    """What is left at `now_ms` of penalties as of `at_ms`."""
    passed = np.maximum(now_ms - at_ms, 0)
    halved = penalty >> np.minimum(passed // half_life_ms, 62)
    value: Int64 = halved * (2 * half_life_ms - passed % half_life_ms) // (2 * half_life_ms)
    return value


def below_ms(penalty: Int64, at_ms: Int64, level: int, half_life_ms: int) -> Int64:
    """When `decayed` is first below `level` (above 0, at most the penalty)."""
    halvings = np.zeros_like(penalty)
    while (more := (penalty >> (halvings + 1)) >= level).any():
        halvings += more
    line = 2 * half_life_ms
    rest = line + 1 + (-level * line) // (penalty >> halvings)
    found: Int64 = at_ms + halvings * half_life_ms + np.clip(rest, 0, half_life_ms)
    return found


class Penalties:
    """By row, in the order of their first flap: `id`, `penalty` int64 as of `at_ms` int64. Of what
    is suppressed, ascending: `suppressed` int64 (ids), `until_ms` int64, when it is below reuse."""

    def __init__(self) -> None:
        self._index = KeyIndex(np.uint64)
        self._penalty, self._at_ms = np.empty(0, np.int64), np.empty(0, np.int64)
        self.suppressed, self.until_ms = np.empty(0, np.int64), np.empty(0, np.int64)
        self._kept = 0  # as many as were left when the decayed were last forgotten

    def fields(self) -> dict[str, Any]:
        """All of it for a snapshot."""
        return {
            "id": self._index.column(0),
            "penalty": self.penalty,
            "at_ms": self.at_ms,
            "suppressed": self.suppressed,
            "until_ms": self.until_ms,
            "kept": self._kept,
        }

    @classmethod
    def of(cls, fields: Fields) -> "Penalties":
        """The inverse of `fields`."""
        made = cls()
        made._index = KeyIndex.of(fields["id"])
        made._penalty, made._at_ms = fields["penalty"], fields["at_ms"]
        made.suppressed, made.until_ms = fields["suppressed"], fields["until_ms"]
        made._kept = fields["kept"]
        return made

    def __len__(self) -> int:
        return len(self._index)

    @property
    def id(self) -> Int64:
        return self._index.column(0).astype(np.int64)

    @property
    def penalty(self) -> Int64:
        return self._penalty[: len(self)]

    @property
    def at_ms(self) -> Int64:
        return self._at_ms[: len(self)]

    def suppresses(self, ids: npt.NDArray[np.integer]) -> Bools:
        """Which of these are suppressed."""
        if not len(self.suppressed):
            return np.zeros(len(ids), np.bool_)
        at = np.minimum(np.searchsorted(self.suppressed, ids), len(self.suppressed) - 1)
        found: Bools = self.suppressed[at] == ids
        return found

    def get(self, number: int) -> tuple[int, int]:
        """(penalty as it was last added to, until when it suppresses; 0: it does not) of an id."""
        at = int(self._index.find(np.array([number], np.uint64))[0])
        until_ms = self.until_ms[self.suppressed == number]
        return (int(self._penalty[at]) if at >= 0 else 0), int(until_ms.sum())

    def add(self, ids: Int64, amount: Int64, now_ms: int, limits: Limits) -> Int64:
        """Add to the penalties of these (distinct, ascending); returns those that are suppressed
        and were not. `release` comes before, at the same `now_ms`."""
        if not len(ids):
            return ids
        self._forget(now_ms, limits)
        at = self._index.intern(ids.astype(np.uint64))
        self._penalty = grown(self._penalty, len(self))
        self._at_ms = grown(self._at_ms, len(self))
        before = decayed(self._penalty[at], self._at_ms[at], now_ms, limits.half_life_ms)
        before[before < limits.reuse / 2] = 0
        now = np.minimum(before + amount, max(limits.most, limits.suppress))
        self._penalty[at], self._at_ms[at] = now, now_ms
        was = self.suppresses(ids)
        held = was | (now >= max(limits.suppress, limits.reuse))
        if held.any():
            others = ~np.isin(self.suppressed, ids[held])
            at_ms = np.full(np.count_nonzero(held), now_ms)
            until_ms = below_ms(now[held], at_ms, limits.reuse, limits.half_life_ms)
            self._suppress(
                np.concatenate((self.suppressed[others], ids[held])),
                np.concatenate((self.until_ms[others], until_ms)),
            )
        turned: Int64 = ids[held & ~was]
        return turned

    def release(self, now_ms: int) -> Int64:
        """Let go of those whose time has come; returns them."""
        due = self.until_ms <= now_ms
        released: Int64 = self.suppressed[due]
        if len(released):
            self.suppressed, self.until_ms = self.suppressed[~due], self.until_ms[~due]
        return released

    def renumber(self, kept: Int64) -> None:
        """The ids are the places of `kept` (ascending, all of them among it) from now on."""
        self._index = KeyIndex.of(np.searchsorted(kept, self.id).astype(np.uint64))
        self.suppressed = np.searchsorted(kept, self.suppressed).astype(np.int64)

    def _suppress(self, ids: Int64, until_ms: Int64) -> None:
        order = np.argsort(ids)
        self.suppressed, self.until_ms = ids[order], until_ms[order]

    def _forget(self, now_ms: int, limits: Limits) -> None:
        """Drop the rows of penalties that count no more, once there may be many of them."""
        if len(self) <= 2 * self._kept + _FEW:
            return
        left = decayed(self.penalty, self.at_ms, now_ms, limits.half_life_ms)
        keep = (left >= limits.reuse / 2) | self.suppresses(self.id)
        self._penalty, self._at_ms = self.penalty[keep], self.at_ms[keep]
        self._index = KeyIndex.of(self._index.column(0)[keep])
        self._kept = len(self)
