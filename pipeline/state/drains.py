"""Which sites an operator takes out of service, and how much of their load is still admitted.

Idea: a Drain says where a share is to go (nothing, or everything) and by when. What it is on the
way follows from the time of the cut alone, so nothing has to be done while it moves.
Rule: from the cut that folds it, the share admitted changes evenly from what it was then until the
deadline. So it never jumps, whatever was asked before and however wrong the operator's clock is
(unless the deadline is past: then at once), and the same record folded again changes nothing. A
site is admitted what it or its region is, whichever is less.
A drain may name what is not in the inventory (yet), and outlives what leaves it: a site that comes
back is still out of service.
Rejected: a start in the record (two clocks, a jump where they differ); a factor on capacity (a site
that is two fifths full would not feel the first half of it; see decide/admission.py).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from pipeline.state.ids import Ids, Int32, Int64

FULL = 10_000  # shares are ten-thousandths
SITE, REGION = "site", "region"
SCOPES = (SITE, REGION)


class Drain(NamedTuple):
    """The share goes from `start` at `since_ms` to `end` at `deadline_ms`."""

    start: int
    end: int
    since_ms: int
    deadline_ms: int

    def share(self, now_ms: int) -> int:
        """What is admitted, in ten-thousandths."""
        if now_ms >= self.deadline_ms:
            return self.end
        left, whole = self.deadline_ms - now_ms, self.deadline_ms - self.since_ms
        return self.end + (self.start - self.end) * min(left, whole) // whole


class Drains:
    """By scope and entity, as `drain_id` joins them."""

    def __init__(self) -> None:
        self._by_id: dict[str, Drain] = {}

    def fields(self) -> list[list[Any]]:
        """All of it for a snapshot."""
        return [[name, *drain] for name, drain in sorted(self._by_id.items())]

    @classmethod
    def of(cls, fields: list[list[Any]]) -> "Drains":
        """The inverse of `fields`."""
        drains = cls()
        drains._by_id = {name: Drain(*drain) for name, *drain in fields}
        return drains

    def apply(self, news: pl.DataFrame, lost: list[str], now_ms: int) -> list[bool]:
        """Take over Drain rows (each `_id` once), forget those that ended; for each row
        whether it says something new."""
        for name in lost:
            self._by_id.pop(name, None)
        fresh: list[bool] = []
        if not news.height:
            return fresh
        columns = ("_id", "action", "deadline_ms")
        for name, action, deadline_ms in news.select(columns).iter_rows():
            before = self._by_id.get(name, Drain(FULL, FULL, 0, 0))
            end = 0 if action == "DRAIN" else FULL
            now = Drain(before.share(now_ms), end, now_ms, deadline_ms)
            fresh.append((before.end, before.deadline_ms) != (end, deadline_ms))
            if fresh[-1]:
                self._by_id[name] = now
        return fresh

    def of_site(self, site: str, region: str) -> list[str]:
        """The ids of what was ordered of a site and of its region."""
        return [name for name in (f"{SITE}:{site}", f"{REGION}:{region}") if name in self._by_id]

    def admitted(
        self,
        sites: Ids,
        site_region: Int32,
        regions: Ids,
        shared: Mapping[int, tuple[str, ...]],
        now_ms: int,
    ) -> tuple[Int64, Int64]:
        """Of each site int64[S]: the share that is admitted now, and where it is going. `shared`:
        site id -> its regions, of those that serve several: they are of their home, the first."""
        now, end = np.full(len(sites), FULL, np.int64), np.full(len(sites), FULL, np.int64)
        for name, drain in self._by_id.items():
            scope, _, entity = name.partition(":")
            if scope == SITE:
                hit = np.arange(len(sites)) == sites.get(entity)
            else:
                hit = (site_region == regions.get(entity)) & (site_region >= 0)
                for site, names in shared.items():
                    hit[site] = names[0] == entity
            now[hit] = np.minimum(now[hit], drain.share(now_ms))
            end[hit] = np.minimum(end[hit], drain.end)
        return now, end


def ids_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Drain rows with their `drain_id` as `_id`."""
    scope = pl.col("scope").cast(pl.String).str.to_lowercase()
    return rows.with_columns(_id=scope + ":" + pl.col("entity"))


def drain_id(scope: str, entity: str) -> str:
    """What keys and sections call a drain: `site:fra1`."""
    return f"{scope}:{entity}"
