"""One region of a cell: its table as proximity has it, what of it is served, and what stands
between.

At a tick the region takes over what changed in its table, if the guard lets it pass, and plans
shares; on urgent news it only reacts. What is published of it is in the cell's Ledger."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.config import SteeringConfig
from pipeline.decide.admission import Admission
from pipeline.decide.assignment import I32, I64, U64, Bools
from pipeline.decide.blocks import Blocks
from pipeline.decide.eligibility import Eligibility
from pipeline.decide.groups import NO_CHANGE, RegionTable, TableChange
from pipeline.decide.guard import Guard, Move
from pipeline.decide.serving import KEPT, Ranked, ServedGroups
from pipeline.decide.shares import RegionShares, SiteLoad
from pipeline.decide.surges import Surges
from pipeline.decide.tablebytes import table_from_bytes, table_to_bytes
from pipeline.effects import Block, Record, VerdictRow
from pipeline.publish import Ledger
from pipeline.publishedprefixes import Keys, PrefixDiff, PublishedPrefixes, keys_of
from pipeline.reasons import Reason
from pipeline.state.codec import Packed, pack, unpack, within
from pipeline.state.demand import Demand
from pipeline.state.fleet import Fleet
from pipeline.state.keyindex import distinct
from pipeline.state.paths import Paths
from pipeline.state.routes import Routes
from pipeline.wire.address import prefix_bytes

TEN_THOUSANDTHS = 10_000
_NO_GROUPS: U64 = np.empty(0, np.uint64)


@dataclass(slots=True)
class Staged:
    """Table effects in the order in which they are sent: a thing before what names it."""

    groups: list[Record] = field(default_factory=list)
    prefixes: list[Block] = field(default_factory=list)
    removed: list[Block] = field(default_factory=list)
    died: list[Record] = field(default_factory=list)
    loads: list[Record] = field(default_factory=list)
    verdicts: list[VerdictRow] = field(default_factory=list)

    def in_order(self) -> list[Record | Block]:
        """All of them but the verdicts."""
        return [*self.groups, *self.prefixes, *self.removed, *self.died, *self.loads]


_LOAD = ("load", "spilled", "taking", "overflow", "paced", "price", "exact")
_ADMISSION = ("share", "part", "base", "cap", "natural")


def sections_of(index: int) -> tuple[str, str, str]:
    """The names of a region's sections in a snapshot."""
    return f"region/{index}/table", f"region/{index}/served", f"region/{index}/published"


class Region:
    """`index`: id of the region in the fleet; `shares`: the groups that are served."""

    def __init__(self, index: int, name: str, ledger: Ledger) -> None:
        self.index, self.name = index, name
        self.table = RegionTable(index)
        self.shares = RegionShares()
        self.guard = Guard()
        self._ledger = ledger
        self._prefixes = ledger.prefixes.setdefault(name, PublishedPrefixes())
        ledger.groups[name] = self.shares.groups
        self._planned_for = (-1, "")
        self._blocks = Blocks()
        self._surges = Surges()

    def to_bytes(self) -> dict[str, Packed]:
        """Three sections of a snapshot: the table, what is served, and the prefixes as published.
        Which client block belongs to which group is worked out again."""
        table, served, published = sections_of(self.index)
        load, admission, prefixes = self.shares.sites, self.shares.admission, self._prefixes
        fields = {
            "planned_for": self._planned_for,
            "surging": self._surges.told,
            **within("guard", self.guard.fields()),
            **within("load", {name: getattr(load, name) for name in _LOAD}),
            **within("admission", {name: getattr(admission, name) for name in _ADMISSION}),
            **within("groups", self.shares.groups.fields()),
        }
        return {
            table: table_to_bytes(self.table, table),
            served: pack(served, fields),
            published: pack(published, {"keys": prefixes.keys, "group": prefixes.group}),
        }

    @classmethod
    def from_bytes(
        cls, index: int, name: str, ledger: Ledger, sections: Mapping[str, bytes]
    ) -> "Region":
        """The inverse of `to_bytes`; puts the region into the ledger."""
        region = cls(index, name, ledger)
        table, served, published = sections_of(index)
        region.table = table_from_bytes(table, sections[table])
        fields = unpack(served, sections[served])
        bucket, config = fields["planned_for"]
        region._planned_for = (bucket, config)
        region._surges.told = fields["surging"]
        region.guard = Guard.of(fields.part("guard"))
        load, admission = fields.part("load"), fields.part("admission")
        region.shares = RegionShares(
            ServedGroups.of(fields.part("groups")),
            SiteLoad(**{name: load[name] for name in _LOAD}),
            Admission(**{name: admission[name] for name in _ADMISSION}),
        )
        ledger.groups[name] = region.shares.groups
        fields = unpack(published, sections[published])
        region._prefixes.keys, region._prefixes.group = fields["keys"], fields["group"]
        return region

    def follow(
        self, routes: Routes, fleet: Fleet, paths: Paths, now_ms: int, config: SteeringConfig
    ) -> TableChange:
        """Bring the table up to the routes, where shares are going to be planned or it presses;
        what that changed."""
        if self._rests_on(now_ms, config) == self._planned_for and not self.table.presses(routes):
            return NO_CHANGE
        return self.table.update(routes, fleet, paths, config)

    def take(
        self, change: TableChange, now_ms: int, cause: bool, config: SteeringConfig, out: Staged
    ) -> U64:
        """Serve what changed in the table, unless it is held back. Returns the groups (ids, some
        perhaps no longer there) that gained or lost prefixes."""
        held = self.guard.held_reason
        if change is NO_CHANGE and held is None and not cause:
            return _NO_GROUPS
        served = self.shares.groups
        if held is None:
            diff = self._prefixes.diff(
                _keys(change.set_hi, change.set_lo, change.set_length),
                self.table.group_id[change.set_group],
                _keys(change.removed_hi, change.removed_lo, change.removed_length),
            )
            born, died = change.born.astype(np.int64), change.died
        else:
            table = self.table
            keys = _keys(table.hi, table.lo, table.length)
            diff = self._prefixes.diff_to(keys, table.group_id[table.group])
            born = np.flatnonzero(table.alive)
            died = np.setdiff1d(served.group[served.alive], table.group_id[born])
        limit = config.publish.moved_share_max
        move = self._move(diff, cause, limit)
        passes = self.guard.judge(move, now_ms, limit)
        if self.guard.held_reason is not held:
            out.verdicts.append(self._verdict(held, move))
        if not passes:
            return _NO_GROUPS
        alive_again = self.table.group_id[born]
        died = died[~np.isin(died, alive_again)]
        born = born[served.slots(alive_again) < 0]
        if len(born) or len(died):
            out.died += self._ledger.drop_groups(self.name, died)
            self.shares.change(_ranked(self.table, born), died)
        if len(diff):
            added, removed = self._ledger.set_prefixes(self.name, diff)
            out.prefixes += added
            out.removed += removed
        touched = (alive_again, diff.set_group, diff.old_group[diff.known], diff.removed_group)
        return np.concatenate(touched)

    def plan(
        self,
        demand: Demand,
        now: Eligibility,
        changed: Bools,
        touched: U64,
        now_ms: int,
        config: SteeringConfig,
    ) -> bool:
        """Shares anew: of all groups if a site's eligibility, the configuration or the bucket of
        demand is not what it was, or a site was taken further out of service, else of the groups
        `touched` (ids). Whether there were any."""
        rests_on = self._rests_on(now_ms, config)
        served = self.shares.groups
        drains = self.shares.admission.moved(now.admitted, now.part, config.assignment.min_shift)
        if rests_on == self._planned_for and not changed.any() and not drains:
            touched = distinct(touched)
            slots = served.slots(touched)
            touched, slots = touched[slots >= 0], slots[slots >= 0]
            if len(slots):
                demand_bps = self._blocks.demand_of(touched, self.index, demand, self.table, now_ms)
                self.shares.settle(slots, demand_bps, now, *_limits(config))
            return len(slots) > 0
        everything = rests_on[-1] != self._planned_for[-1]
        self._planned_for = rests_on
        demand_bps = self._blocks.demand_bps(self.index, demand, self.table, served, now_ms)
        limits = (*_limits(config), config.assignment.step)
        self.shares.plan(now, changed, demand_bps, *limits, everything=everything)
        return True

    def told_surges(self, demand: Demand, now_ms: int) -> list[VerdictRow]:
        """The verdicts where a flash crowd began or ended; to be asked once for each bucket."""
        level = self._blocks.level_bps(demand, now_ms)
        risen = demand.trend.risen
        risen = risen.only(demand.block_region[risen.block] == self.index)
        return self._surges.judge(self.name, risen, level, demand.chance_bps(level))

    def told_exact(self, before: bool) -> list[VerdictRow]:
        """The verdict where the shares are the optimum now and were not `before`, or the other way
        round."""
        now = self.shares.sites.exact
        if now is before:
            return []
        states = ("EXACT", "SPILLED_OVER") if before else ("SPILLED_OVER", "EXACT")
        reason = Reason.RELEASED if now else Reason.TOO_MUCH_TO_SOLVE
        return [VerdictRow("table", self.name, *states, reason, "")]

    def react(self, now: Eligibility, changed: Bools, config: SteeringConfig) -> None:
        """Shares of the groups that name a site whose eligibility changed."""
        self.shares.react(now, changed, *_limits(config))

    def _rests_on(self, now_ms: int, config: SteeringConfig) -> tuple[int, str]:
        """What a plan is good for: a bucket of demand, and a configuration (by its hash)."""
        return now_ms // config.inputs.demand_bucket_ms, config.hash()

    def _move(self, diff: PrefixDiff, cause: bool, limit: float) -> Move:
        published, touched = len(self._prefixes), len(diff)
        moved = touched
        if published and touched > limit * published:
            old = self.shares.groups.slots(diff.old_group[diff.known])
            before = self.shares.groups.first_site(old)
            moved = len(diff.removed_keys)
            moved += int((before != self._first_site(diff.set_group[diff.known])).sum())
        return Move(published, len(self.table.hi), moved, touched, cause)

    def _first_site(self, group: U64) -> I32:
        """Nearest site of groups of the table, by id."""
        table = self.table
        living = np.flatnonzero(table.alive)
        living = living[np.argsort(table.group_id[living])]
        at = np.searchsorted(table.group_id[living], group)
        entries, count = table.in_order(living[at])
        first: I32 = table.site[entries[np.cumsum(count) - count]]
        return first

    def _verdict(self, before: Reason | None, move: Move) -> VerdictRow:
        after = self.guard.held_reason
        detail = (
            f"{move.vanish_or_move} of {move.published} prefixes vanish or get another nearest "
            f"site; {move.after} afterwards"
        )
        states = ("HELD" if before else "PASSING", "HELD" if after else "PASSING")
        return VerdictRow("table", self.name, *states, after or Reason.RELEASED, detail)


def _limits(config: SteeringConfig) -> tuple[int, int]:
    return round(config.assignment.target * TEN_THOUSANDTHS), config.assignment.min_shift


def _keys(hi: U64, lo: U64, length: npt.NDArray[np.uint8]) -> Keys:
    return keys_of(prefix_bytes(hi, lo, length))


def _ranked(table: RegionTable, groups: I64) -> Ranked:
    entries, count = table.in_order(groups)
    return Ranked(table.group_id[groups], count, *(getattr(table, name)[entries] for name in KEPT))
