"""From own rankings to groups: a prefix's group is its own ranking, then its cover's without
those.

A group follows from the pair (own ranking, the cover's group), so each pair is worked out once,
for thousands of pairs at a time, and remembered. Which of the cover's sites the prefix has itself
is read from a table of marks (pair, site). Tiers are counted anew: 0 for the own sites, then one
more for each less specific announcement of which a site is left. A group is cut at sites_max
(groups.py says why that is exact); a prefix whose own ranking is that long already takes nothing
from its cover.
Rejected: bit sets of sites as Python integers (a call per pair); sorting (pair, site) to find
doubles (two sorts of all entries, and back).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.decide.placement import Placement
from pipeline.decide.proximity import OwnRankings
from pipeline.decide.rankings import COLUMNS, Entries, Rankings, entry_words, ranking_ids
from pipeline.state.codec import Digests, Fields, within
from pipeline.state.keyindex import KeyIndex, grown
from pipeline.state.lpm import ragged
from pipeline.state.paths import Paths

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

NONE = -1
_U64 = np.uint64
#: Marks (pairs times sites) held at a time, a byte each.
_MARKS = 1 << 25


class Inheritance:
    """Own rankings (`own`) and groups (`groups`), and which pair gave which group."""

    def __init__(self) -> None:
        self.own, self.groups = Rankings(), Rankings()
        self._forget_pairs()
        self._pair_group: Int32 = np.empty(1024, dtype=np.int32)
        self._sites_max = 0

    def _forget_pairs(self) -> None:
        self._pairs = KeyIndex(np.uint64)  # own << 32 | cover + 1
        self._digests = Digests()  # of their groups

    def fields(self) -> dict[str, Any]:
        """All of it for a snapshot: how many pairs are remembered decides when rankings are let go
        of."""
        return {
            **within("own", self.own.fields()),
            **within("groups", self.groups.fields()),
            "pair": self._pairs.field(0),
            "pair_group": self._digests.of(self._pair_group[: len(self)]),
            "sites_max": self._sites_max,
        }

    @classmethod
    def of(cls, fields: Fields) -> "Inheritance":
        """The inverse of `fields`."""
        made = cls()
        made.own = Rankings.of(fields.part("own"))
        made.groups = Rankings.of(fields.part("groups"))
        made._pairs, made._pair_group = KeyIndex.of(fields["pair"]), fields["pair_group"]
        made._sites_max = fields["sites_max"]
        return made

    def __len__(self) -> int:
        """Pairs that are remembered."""
        return len(self._pairs)

    def start_over(self, sites_max: int) -> None:
        """Forget own rankings and pairs: the rules have changed. Groups stay."""
        self.own, self._sites_max = Rankings(), sites_max
        self._forget_pairs()

    def retain(self, own: Bools, groups: Bools) -> None:
        """Let go of all but the marked own rankings and groups, and of the pairs."""
        self.own.retain(own)
        self.groups.retain(groups)
        self._forget_pairs()

    def intern_own(self, found: OwnRankings, place: Placement, paths: Paths) -> Int32:
        """The indices of own rankings, a row each of `found`."""
        if not len(found.prefix):
            return np.empty(0, dtype=np.int32)
        steps = range(NONE, int(found.rtt_step.max()) + 1)
        ms = np.array([NONE if at == NONE else paths.rtt_ms_of_step(at) for at in steps], np.int32)
        rtt_ms = ms[found.rtt_step + 1]
        entries = Entries(
            site=place.site[found.code],
            tier=np.zeros(len(found.code), dtype=np.uint8),
            as_path_len=found.as_path_len,
            med=found.med,
            rtt_ms=rtt_ms,
            distance_km=found.distance_km,
            last=found.last,
            word=entry_words(
                place.name_hash[found.code],
                found.as_path_len,
                found.med,
                rtt_ms,
                found.distance_km,
                found.last,
            ),
        )
        ids = ranking_ids(entries.word, entries.tier, found.start, found.count)
        return self.own.intern(ids, entries, found.start, found.count)

    def group_of(self, own: Int32, cover: Int32) -> Int32:
        """The group of each pair of own ranking and the cover's group (-1: no cover)."""
        alone = self.own.count[own] >= self._sites_max
        cover = np.where(alone, np.int32(NONE), cover)
        pair = (own.astype(np.uint64) << _U64(32)) | (cover + 1).astype(np.uint64)
        known = len(self._pairs)
        at = self._pairs.intern(pair)
        self._pair_group = grown(self._pair_group, len(self._pairs))
        fresh = self._pairs.column(0)[known:]
        own, cover = (fresh >> _U64(32)).astype(np.int32), fresh.astype(np.int32) - np.int32(1)
        sites = max(1, self.own.sites, self.groups.sites)
        block = max(1, _MARKS // sites)
        for start in range(0, len(fresh), block):
            part = slice(start, start + block)
            made = self._inherit(own[part], cover[part], sites)
            self._pair_group[known + start : known + start + len(made)] = made
        return self._pair_group[at]

    def _inherit(self, own: Int32, cover: Int32, sites: int) -> Int32:
        """Work out pairs: the own entries, then those of the cover with another site."""
        mine, theirs = self.own.entries, self.groups.entries
        mine_rows, mine_count = self.own.rows(own), self.own.count[own].astype(np.int64)
        covered = np.flatnonzero(cover != NONE)
        theirs_rows = self.groups.rows(cover[covered])
        pair = np.repeat(covered, self.groups.count[cover[covered]])
        marks = np.zeros(len(own) * sites, dtype=bool)
        marks[np.repeat(np.arange(len(own)), mine_count) * sites + mine.site[mine_rows]] = True
        other = ~marks[pair * sites + theirs.site[theirs_rows]]
        pair, theirs_rows = pair[other], theirs_rows[other]
        room = self._sites_max - mine_count
        theirs_count = np.bincount(pair, minlength=len(own))
        inner = np.arange(len(pair)) - np.repeat(
            np.cumsum(theirs_count) - theirs_count, theirs_count
        )
        fits = inner < room[pair]
        pair, theirs_rows = pair[fits], theirs_rows[fits]
        theirs_count = np.minimum(theirs_count, room)

        count = mine_count + theirs_count
        start = np.cumsum(count) - count
        to_mine, to_theirs = ragged(start, mine_count), ragged(start + mine_count, theirs_count)
        columns = {}
        for name in COLUMNS:
            source = getattr(mine, name)
            columns[name] = np.empty(int(count.sum()), dtype=source.dtype)
            columns[name][to_mine] = source[mine_rows]
            columns[name][to_theirs] = getattr(theirs, name)[theirs_rows]
        columns["tier"][to_theirs] = _tiers(pair, theirs.tier[theirs_rows])
        entries = Entries(**columns)
        return self.groups.intern(
            ranking_ids(entries.word, entries.tier, start, count), entries, start, count
        )


def _tiers(pair: Int64, tier: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The tiers of inherited entries, counted from 1 in each pair."""
    if not len(pair):
        return tier
    first = np.ones(len(pair), dtype=bool)
    first[1:] = pair[1:] != pair[:-1]
    steps = first.copy()
    steps[1:] |= tier[1:] != tier[:-1]
    total = np.cumsum(steps)
    base = total[first]
    tiers: npt.NDArray[np.uint8] = (total - base[np.cumsum(first) - 1] + 1).astype(np.uint8)
    return tiers
