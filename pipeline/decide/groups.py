"""The steering table of a region: every announced prefix and its group, the ranking it shares.

Idea: a prefix's ranking is the sites that announce it itself (proximity.py), then its covering
prefix's ranking without those. So groups are made from the top down, level by level, and a group
follows from two numbers: the own ranking and the cover's group. Few such pairs are different
(191,000 for 634,000 real prefixes at 200 sites), so each is worked out once and remembered, and a
level is one lookup.
Rule: a group holds the first `sites_max` sites. Inheriting from a cut ranking is exact: of the
cover's sites a prefix passes over those that it has itself, r of its own k, and needs at most
sites_max - k of the others; sites_max - r of them are left.
Update: only the prefixes are ranked anew whose routes, sites, place or measured RTT changed; their
groups and those below them are looked up again; what differs is the change. Starting over and
going on are the same code with more or fewer prefixes, and lead to the same table, ids included.
Without news an update is a few comparisons of version numbers.
Measured (2 cores, 634,000 real prefixes 9 deep, 3.0 million routes, 200 sites): 1.6 s for all of
it, 20 ms for 1,000 changed prefixes; 147,000 groups.
Rejected: flattening inherited routes into the prefixes (5 to 7 times slower already without
updates, see the benchmark); a group per prefix set found by partition refinement (not
incremental); recomputing all groups at each tick.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.config import ProximityConfig, SteeringConfig
from pipeline.decide.inheritance import Inheritance
from pipeline.decide.placement import Placement, RttIndex
from pipeline.decide.proximity import rank
from pipeline.state.fleet import Fleet
from pipeline.state.keyindex import distinct, grown
from pipeline.state.lpm import Lengths, Prefixes, PrefixTree, Words, preorder, rows_of
from pipeline.state.paths import Paths
from pipeline.state.routes import Routes

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NONE = -1
_STALE = -2
#: A table of which more than this part has changed is worked out as a whole.
_MUCH = 8
#: News of this part of the prefixes does not wait for the next plan.
_NEWS = 100
#: Rankings beyond what is in use that are not worth letting go of.
_SPARE = 65_536


@dataclass(frozen=True, slots=True)
class TableChange:
    """What an update changed: prefixes with a new group (by index), prefixes that are gone, both in
    order of (hi, lo, length); groups that came into use (indices) and that went out of it (ids), in
    order of id."""

    set_hi: Words
    set_lo: Words
    set_length: Lengths
    set_group: Int32
    removed_hi: Words
    removed_lo: Words
    removed_length: Lengths
    born: Int32
    died: Words

    def __bool__(self) -> bool:
        return bool(len(self.set_hi) or len(self.removed_hi))


_NO_IDS: Int32 = np.empty(0, dtype=np.int32)
_NO_PREFIXES: Prefixes = (np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.uint8))
NO_CHANGE = TableChange(*_NO_PREFIXES, _NO_IDS, *_NO_PREFIXES, _NO_IDS, np.empty(0, np.uint64))


class RegionTable:
    """The table of one region (fleet id). By prefix, in order of (hi, lo, length): `hi`, `lo`
    uint64, `length` uint8, `group` int32 (an index). By group index: `group_id` uint64, `alive`
    bool (whether a prefix has it), `start` int64 and `count` int32 of its entries. By entry, as
    in Entries: `site`, `tier`, `as_path_len`, `med`, `rtt_ms`, `distance_km`, `last`. A living
    group keeps its index. `version` grows with every change."""

    def __init__(self, region: int) -> None:
        self.region, self.version = region, 0
        self._tree, self._rtt, self._made = PrefixTree(), RttIndex(), Inheritance()
        # By prefix id of Routes: index of the own ranking, and of the group; -1: not in the table.
        self._own: Int32 = _NO_IDS
        self._group: Int32 = _NO_IDS
        self._references: Int64 = np.zeros(1024, dtype=np.int64)  # prefixes by group
        self._place: Placement | None = None
        self._rules: ProximityConfig | None = None
        self._seen = (NONE, NONE, NONE, NONE)
        self._in_order: Int32 | None = None

    def __len__(self) -> int:
        """Prefixes in the table."""
        return len(self._tree)

    @property
    def hi(self) -> Words:
        return self._tree.hi

    @property
    def lo(self) -> Words:
        return self._tree.lo

    @property
    def length(self) -> Lengths:
        return self._tree.length

    @property
    def group(self) -> Int32:
        if self._in_order is None:
            self._in_order = self._group[self._tree.order]
        return self._in_order

    @property
    def group_id(self) -> Words:
        return self._made.groups.id

    @property
    def start(self) -> Int64:
        return self._made.groups.start

    @property
    def count(self) -> Int32:
        return self._made.groups.count

    @property
    def site(self) -> Int32:
        return self._made.groups.entries.site

    @property
    def tier(self) -> Lengths:
        return self._made.groups.entries.tier

    @property
    def as_path_len(self) -> Int32:
        return self._made.groups.entries.as_path_len

    @property
    def med(self) -> Int64:
        return self._made.groups.entries.med

    @property
    def rtt_ms(self) -> Int32:
        return self._made.groups.entries.rtt_ms

    @property
    def distance_km(self) -> Int32:
        return self._made.groups.entries.distance_km

    @property
    def last(self) -> Lengths:
        return self._made.groups.entries.last

    def in_order(self, groups: npt.NDArray[np.integer]) -> tuple[Int64, Int64]:
        """(entries of these groups, one behind the other; how many of each) in the order in which
        sites are preferred: those whose routes flap or whose paths lose come last."""
        count = self.count[groups].astype(np.int64)
        entries = self._made.groups.rows(groups)
        last = self.last[entries] > 0
        if last.any():
            owner = np.repeat(np.arange(len(count)), count)
            entries = entries[np.argsort(owner * 2 + last, kind="stable")]
        return entries, count

    @property
    def alive(self) -> Bools:
        return self._references[: len(self._made.groups)] > 0

    @property
    def shape(self) -> int:
        """Changes when prefixes come or go, not when they change their groups: as long as it is the
        same, so is every longest match."""
        return self._tree.version

    def shape_changes(self, shape: int) -> Prefixes | None:
        """The prefixes that came or went since the shape was that; None: look at everything."""
        return self._tree.changed_since(shape)

    def longest(self, hi: Words, lo: Words) -> Int32:
        """The longest prefix around each address, by its id in the routes; -1 without one."""
        return self._tree.match(hi, lo)

    def groups_of(self, prefixes: Int32) -> Int32:
        """The groups (indices) of what `longest` found; -1 where there is none."""
        if not len(self._group):
            return np.full(len(prefixes), NONE, dtype=np.int32)
        found = self._group[prefixes]
        found[prefixes == NONE] = NONE
        return found

    def indices(self, group_ids: Words) -> Int32:
        """The indices of groups given by id; -1 where one is not known."""
        return self._made.groups.find(group_ids)

    def match(self, hi: Words, lo: Words) -> Int32:
        """The group (index) of the longest prefix around each address; -1 where there is none."""
        return self.groups_of(self.longest(hi, lo))

    def follows(self, routes: Routes, paths: Paths) -> bool:
        """Whether it has taken over all changes of routes and measured times."""
        seen_routes, generation, _, seen_paths = self._seen
        now = (routes.version, routes.generation, paths.version)
        return (seen_routes, generation, seen_paths) == now

    def presses(self, routes: Routes) -> bool:
        """Whether it should not wait with what changed in the routes: a hundredth of its prefixes
        are news, less are what the Internet does all day."""
        changed = routes.changed_since(self._seen[0])
        return changed is None or changed * _NEWS > len(self)

    def update(
        self, routes: Routes, fleet: Fleet, paths: Paths, config: SteeringConfig
    ) -> TableChange:
        """Bring the table up to the sections as they are now; returns what that changed."""
        seen = (routes.version, routes.generation, fleet.placement_version, paths.version)
        if seen == self._seen and config.proximity == self._rules:
            return NO_CHANGE
        lost, lost_group = self._follow_numbering(routes)
        dirty = self._dirty(routes, fleet, paths, config.proximity)
        self._seen = seen
        if dirty is not None and not len(dirty) and not len(lost_group):
            return NO_CHANGE
        changed = self._rank_anew(dirty, routes, paths)
        before = self._group.copy()
        gone, affected = self._follow_prefixes(changed, routes, everything=len(lost_group) > 0)
        self._regroup(affected)
        self._group[gone] = NONE
        self._in_order = None
        moved = affected[before[affected] != self._group[affected]]
        change = self._account(
            moved,
            routes,
            _joined(lost, rows_of(routes.by_id, gone)),
            np.concatenate((lost_group, before[gone], before[moved])),
        )
        self.version += bool(change)
        self._tidy()
        return change

    # -- what is new

    def _follow_numbering(self, routes: Routes) -> tuple[Prefixes, Int32]:
        """Where Routes gave new prefix ids, take them over; returns the prefixes (and their groups)
        that it has forgotten."""
        size = len(routes.prefixes)
        if routes.generation == self._seen[1] or not len(self):
            self._own, self._group = grown(self._own, size, NONE), grown(self._group, size, NONE)
            return _NO_PREFIXES, _NO_IDS
        order, prefixes = self._tree.order, self._tree.prefixes
        now = routes.prefixes.find(*prefixes)
        kept = now != NONE
        own, group = self._own[order], self._group[order]
        self._own, self._group = (np.full(size, NONE, dtype=np.int32) for _ in range(2))
        self._own[now[kept]], self._group[now[kept]] = own[kept], group[kept]
        self._tree.build(now[kept], routes.by_id)
        return rows_of(prefixes, np.flatnonzero(~kept)), group[~kept]

    def _dirty(
        self, routes: Routes, fleet: Fleet, paths: Paths, rules: ProximityConfig
    ) -> Int32 | None:
        """Ids of the prefixes to be ranked anew, ascending; None: all."""
        seen_routes, _, seen_placement, _ = self._seen
        measured = self._rtt.update(paths)
        before, everything = self._place, rules != self._rules
        if before is None or everything:
            self._made.start_over(rules.sites_max)
            self._own[self._own != NONE] = _STALE
            self._rules = rules
        moved = seen_placement != fleet.placement_version
        if before is None or everything or moved or len(routes.sites) != len(before.code):
            self._place = Placement.of(self.region, fleet, routes, self._rtt, rules)
        parts = [routes.changes_since(seen_routes)]
        if before is None or everything or parts[0] is None:
            return None
        at = routes.prefixes.find(*measured)
        parts.append(at[at != NONE])
        if moved and self._place is not None:
            sites = self._place.changed_sites(before)
            if sites.any():
                parts.append(routes.prefixes_of_sites(sites))
            elsewhere = self._place.changed_locations(before, self._tree.prefixes)
            parts.append(self._tree.order[elsewhere])
        dirty = distinct(np.concatenate([part for part in parts if part is not None]))
        return None if len(dirty) * _MUCH > len(self) + _SPARE else dirty

    def _rank_anew(self, dirty: Int32 | None, routes: Routes, paths: Paths) -> Int32:
        """Put new own rankings in place of the old; returns the ids where they differ."""
        assert self._place is not None
        parts = routes.parts() if dirty is None else iter([(dirty, routes.rows_of(dirty))])
        changed = [_NO_IDS]
        for ids, rows in parts:
            found = rank(rows, routes, self._place)
            own = np.full(len(ids), NONE, dtype=np.int32)
            own[np.searchsorted(ids, found.prefix)] = self._made.intern_own(
                found, self._place, paths
            )
            differs = own != self._own[ids]
            self._own[ids[differs]] = own[differs]
            changed.append(ids[differs])
        return np.concatenate(changed)

    def _follow_prefixes(
        self, changed: Int32, routes: Routes, everything: bool
    ) -> tuple[Int32, Int32]:
        """Bring the tree up to the prefixes that have a ranking now; returns (what left it, what
        may have another group): the changed ones and all below them."""
        inside = self._group[changed] != NONE
        stays = self._own[changed] != NONE
        added, gone = changed[~inside & stays], changed[inside & ~stays]
        if everything or (len(added) + len(gone)) * _MUCH > len(self):
            self._tree.build(np.flatnonzero(self._own != NONE).astype(np.int32), routes.by_id)
            return gone, self._tree.order
        orphans = self._tree.below(gone)
        self._tree.change(added, gone, routes.by_id)
        below = self._tree.below(changed[stays])
        affected = distinct(np.concatenate((below, orphans[self._own[orphans] != NONE])))
        return gone, affected

    def _regroup(self, affected: Int32) -> None:
        """Look up the groups of these prefixes, covers before what they cover."""
        parents = self._tree.parent
        waiting = np.zeros(len(parents) + 1, dtype=bool)  # the last one stands for "no cover"
        waiting[affected] = True
        while len(affected):
            cover = parents[affected]
            ready = ~waiting[cover]
            now, cover = affected[ready], cover[ready]
            above = np.where(cover == NONE, np.int32(NONE), self._group[cover])
            self._group[now] = self._made.group_of(self._own[now], above)
            waiting[now] = False
            affected = affected[~ready]

    # -- what that changed

    def _account(self, moved: Int32, routes: Routes, removed: Prefixes, left: Int32) -> TableChange:
        """Count the groups' prefixes anew: `moved` prefixes came to their groups, `left` are the
        groups that lost one each (-1: none)."""
        groups = self._made.groups
        self._references = grown(self._references, len(groups))
        left, joined = left[left != NONE], self._group[moved]
        touched = distinct(np.concatenate((left, joined)))
        before = self._references[touched]
        self._references[: len(groups)] += np.bincount(joined, minlength=len(groups))
        self._references[: len(groups)] -= np.bincount(left, minlength=len(groups))
        after = self._references[touched]
        born, died = touched[(before == 0) & (after > 0)], touched[(before > 0) & (after == 0)]
        new = rows_of(routes.by_id, moved)
        order = preorder(new)
        new = rows_of(new, order)
        removed = rows_of(removed, preorder(removed))
        return TableChange(
            *new,
            self._group[moved[order]],
            *removed,
            born[np.argsort(groups.id[born])],
            np.sort(groups.id[died]),
        )

    def _tidy(self) -> None:
        """Let go of rankings that nobody has, once they are more than those in use."""
        alive, made = self.alive, self._made
        living = np.count_nonzero(alive)
        worn = max(len(made.own), len(made.groups), len(made) // 4) - living
        if worn <= max(_SPARE, len(self)):
            return
        used = np.zeros(len(made.own), dtype=bool)
        used[self._own[self._tree.order]] = True
        made.retain(used, alive)


def _joined(one: Prefixes, other: Prefixes) -> Prefixes:
    return (
        np.concatenate((one[0], other[0])),
        np.concatenate((one[1], other[1])),
        np.concatenate((one[2], other[2])),
    )
