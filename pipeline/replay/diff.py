"""What differs between two Views, and how much traffic that is.

Idea: what moved is asked of the clients, not of the tables. Every client block has a longest match
in A and one in B, and so two rankings with their shares; blocks with the same pair of groups fare
alike and are one case. Of a case that draws d bits/s the sites that lost share lose, those that
gained gain; who went where nobody decided, so every loser gives to every gainer in proportion:

    moved(loser -> gainer) = d * lost share * gained share / all that moved / 10,000

Rule: d is the demand of B: the same traffic, placed as A did and as B does. Growth of demand moves
nothing. "Nowhere" (a null site) is a site like any other: what was served and is not moves there.
All is in whole bits/s (portions.py), and what sites lose is what sites gain, exactly.

An overload is load above target for which the plane found no room: what it says of itself, less
what pacing leaves (`overflow_bps` in view.py), and not load compared with capacity.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from pipeline.decide.sites import CLASS_NAMES
from pipeline.regions import TEN_THOUSANDTHS
from pipeline.replay.portions import part_of, portions
from pipeline.replay.view import BY_CLASS, View, by_class, matched

_BLOCK = ["region", "hi", "lo"]
_PREFIX = [*_BLOCK, "length"]
_PAIR = ["region", "group_a", "group_b"]


@dataclass(frozen=True, slots=True)
class Diff:
    """Frames in order of traffic; columns of A end in _a, of B in _b.

    moves       region, from, to (null: nowhere), vod_bps, live_bps, game_bps, moved_bps
    prefixes    region, hi, lo, length, change (ADDED, REMOVED, REGROUPED, SHARES), group_a,
                group_b, demand_bps (in B, or of what is gone in A), moved_bps
    sites       region, site, out_bps, in_bps, and state, serves, capacity_bps, target_bps,
                load_bps, overflow_bps of both: all sites
    appliances  region, site, appliance, and state, weight, reason, load_bps (the site's by weight)
                of both: those of which state, weight or reason differs
    unserved    region, class, bps_a, bps_b: demand that no site served, where there is any
    """

    a: View
    b: View
    moves: pl.DataFrame
    prefixes: pl.DataFrame
    sites: pl.DataFrame
    appliances: pl.DataFrame
    unserved: pl.DataFrame

    @property
    def changed_sites(self) -> pl.DataFrame:
        """Sites that lost or gained traffic, or of which more than load and target differs."""
        kept = ("state", "serves", "capacity_bps", "overflow_bps")
        other = [pl.col(f"{name}_a").ne_missing(pl.col(f"{name}_b")) for name in kept]
        return self.sites.filter(pl.any_horizontal(pl.col("out_bps", "in_bps") > 0, *other))

    @property
    def overloads(self) -> pl.DataFrame:
        """Sites above target without room in A or B; `overload`: MADE, WORSE, SAME, LESS, CURED,
        GONE (the site serves nothing any more, which cures nothing)."""
        before, after = (pl.col(f"overflow_bps_{end}").fill_null(0) for end in "ab")
        word = (
            pl.when(before == 0).then(pl.lit("MADE"))
            .when((after == 0) & (pl.col("capacity_bps_b").fill_null(0) == 0)).then(pl.lit("GONE"))
            .when(after == 0).then(pl.lit("CURED"))
            .when(after > before).then(pl.lit("WORSE")).when(after < before).then(pl.lit("LESS"))
            .otherwise(pl.lit("SAME"))
        )  # fmt: skip
        found = self.sites.filter((before > 0) | (after > 0)).with_columns(overload=word)
        return found.sort(pl.max_horizontal(before, after), descending=True, maintain_order=True)

    def summary(self) -> dict[str, Any]:
        """Counts and sums; bits/s of A and B as pairs."""
        words, kinds = self.overloads.get_column("overload"), self.prefixes.get_column("change")
        return {
            "moved_bps": _sum(self.moves, "moved_bps"),
            "demand_bps": [_demand(self.a), _demand(self.b)],
            "unserved_bps": [_sum(self.unserved, f"bps_{end}") for end in "ab"],
            "overflow_bps": [_sum(view.sites, "overflow_bps") for view in (self.a, self.b)],
            "overloads_made": int((words == "MADE").sum()),
            "overloads_cured": int((words == "CURED").sum()),
            "prefixes": {
                "of": [self.a.prefixes.height, self.b.prefixes.height],
                "with_moved_traffic": int((self.prefixes.get_column("moved_bps") > 0).sum()),
                **{
                    kind.lower(): int((kinds == kind).sum())
                    for kind in ("ADDED", "REMOVED", "REGROUPED")
                },
            },
            "sites": self.changed_sites.height,
            "appliances": self.appliances.height,
            "held": [_held(view) for view in (self.a, self.b)],
            "equal": self.equal,
        }  # fmt: skip

    @property
    def equal(self) -> bool:
        """Whether nothing differs but perhaps demand, load and target."""
        frames = (self.moves, self.prefixes, self.changed_sites, self.appliances)
        return not any(frame.height for frame in frames)


def diff(a: View, b: View) -> Diff:
    """What changed from `a` to `b`."""
    blocks = _blocks(a, b)
    cells = _cells(a, b, blocks)
    moves = (
        cells.group_by("region", "from", "to")
        .agg(
            pl.col("bps").filter(pl.col("class") == name).sum().alias(column)
            for column, name in zip(BY_CLASS, CLASS_NAMES, strict=True)
        )
        .with_columns(moved_bps=pl.sum_horizontal(BY_CLASS))
        .filter(pl.col("moved_bps") > 0)
        .sort("moved_bps", "region", "from", "to", descending=[True, False, False, False])
    )
    return Diff(
        a,
        b,
        moves=moves,
        prefixes=_prefixes(a, b, blocks, cells),
        sites=_sites(a, b, moves),
        appliances=_appliances(a, b),
        unserved=_unserved(a, b),
    )


def _demand(view: View) -> int:
    return sum(_sum(view.blocks, name) for name in BY_CLASS)


def _held(view: View) -> dict[str, str]:
    """Region -> why its table is held back."""
    held = view.regions.filter(pl.col("held").is_not_null())
    return dict(held.select("region", "held").iter_rows())


def _sum(frame: pl.DataFrame, column: str) -> int:
    return int(frame.get_column(column).sum())


def _blocks(a: View, b: View) -> pl.DataFrame:
    """Every block that draws in A or B: its demand in B, its prefix (row in the View's frame) and
    group in both, null where none covers it."""
    keys = pl.concat([a.blocks.select(_BLOCK), b.blocks.select(_BLOCK)]).unique().sort(_BLOCK)
    blocks = keys.join(b.blocks, on=_BLOCK, how="left", maintain_order="left").fill_null(0)
    for end, view in (("a", a), ("b", b)):
        at = np.full(blocks.height, -1, np.int64)
        prefixes = view.prefixes.with_row_index("row")
        of_block = blocks.with_row_index("row")
        for name, mine in of_block.group_by("region"):
            inside = prefixes.filter(pl.col("region") == name[0])
            found = matched(inside, mine)
            rows = np.append(inside.get_column("row").to_numpy().astype(np.int64), -1)
            at[mine.get_column("row").to_numpy()] = rows[found]
        row = pl.Series(at)
        row = pl.select(pl.when(row >= 0).then(row)).to_series()
        blocks = blocks.with_columns(
            row.alias(f"prefix_{end}"),
            prefixes.get_column("group").gather(row).alias(f"group_{end}"),
        )
    return blocks


def _cells(a: View, b: View, blocks: pl.DataFrame) -> pl.DataFrame:
    """What moved, per case (region, group_a, group_b, class), loser and gainer: bps; `part`: how
    many ten-thousandths of the case moved in all."""
    cases = (
        blocks.group_by(_PAIR)
        .agg(pl.col(BY_CLASS).sum())
        .pipe(by_class, _PAIR)
        .filter(pl.col("demand_bps") > 0)
        .sort(*_PAIR, "class")
        .with_row_index("case")
    )
    before, after = (_placed(cases, view, f"group_{end}") for end, view in (("a", a), ("b", b)))
    both = before.join(
        after, on=["case", "site"], how="full", nulls_equal=True, coalesce=True, suffix="_b"
    )
    moved = both.select(
        "case", "site", by=pl.col("share_b").fill_null(0) - pl.col("share").fill_null(0)
    )
    lost = moved.filter(pl.col("by") < 0).select("case", lost=-pl.col("by"), **{"from": "site"})
    gained = moved.filter(pl.col("by") > 0).select("case", gained="by", to="site")
    cells = lost.join(gained, on="case").sort("case", "from", "to")
    cells = cells.join(gained.group_by("case").agg(part=pl.col("gained").sum()), on="case")
    cells = cells.join(cases, on="case", maintain_order="left").with_columns(
        weight=pl.col("lost") * pl.col("gained"), of=pl.col("part") * TEN_THOUSANDTHS
    )
    return cells.with_columns(bps=portions(cells, ["case"], "demand_bps", "weight", "of"))


def _placed(cases: pl.DataFrame, view: View, group: str) -> pl.DataFrame:
    """The shares of each case's group: all of it nowhere where there are none."""
    shares = view.shares.select(
        "region", "class", group=pl.col("group"), site="site", share="share"
    )
    asked = cases.select("case", "region", "class", group=pl.col(group))
    found = asked.join(shares, on=["region", "class", "group"], how="left")
    return found.select("case", "site", pl.col("share").fill_null(TEN_THOUSANDTHS))


def _prefixes(a: View, b: View, blocks: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """Prefixes with another group, or of whose clients some went elsewhere."""
    parts = cells.select(*_PAIR, "class", "part").unique()
    of_block = (
        blocks.filter(pl.any_horizontal(pl.col("prefix_a", "prefix_b").is_not_null()))
        .pipe(by_class, ["prefix_a", "prefix_b", *_PAIR])
        .join(parts, on=[*_PAIR, "class"], nulls_equal=True)
        .with_columns(moved_bps=part_of("demand_bps", "part", TEN_THOUSANDTHS))
    )
    ends = []
    for end, view in (("a", a), ("b", b)):
        mine = of_block if end == "b" else of_block.filter(pl.col("prefix_b").is_null())
        moved = mine.group_by(row=f"prefix_{end}").agg(pl.col("moved_bps").sum())
        ends.append(
            view.prefixes.with_row_index("row")
            .with_columns(pl.col("row").cast(pl.Int64))
            .join(moved, on="row", how="left")
            .select(
                *_PREFIX,
                "group",
                demand_bps=pl.sum_horizontal(BY_CLASS),
                moved_bps=pl.col("moved_bps").fill_null(0),
            )
        )
    change = (
        pl.when(pl.col("group").is_null()).then(pl.lit("ADDED"))
        .when(pl.col("group_b").is_null()).then(pl.lit("REMOVED"))
        .when(pl.col("group") != pl.col("group_b")).then(pl.lit("REGROUPED"))
        .otherwise(pl.lit("SHARES"))
    )  # fmt: skip
    return (
        ends[0]
        .join(ends[1], on=_PREFIX, how="full", coalesce=True, suffix="_b")
        .select(
            *_PREFIX,
            change=change,
            group_a="group",
            group_b="group_b",
            demand_bps=pl.coalesce("demand_bps_b", "demand_bps"),
            moved_bps=pl.col("moved_bps").fill_null(0) + pl.col("moved_bps_b").fill_null(0),
        )
        .filter((pl.col("change") != "SHARES") | (pl.col("moved_bps") > 0))
        .sort("moved_bps", "demand_bps", *_PREFIX, descending=[True, True, *[False] * 4])
    )


def _joined(frames: list[pl.DataFrame], on: list[str], kept: list[str]) -> pl.DataFrame:
    """Rows of A's and B's frame, columns `kept` under both names."""
    ends = [
        frame.select(*on, **{f"{name}_{end}": name for name in kept})
        for end, frame in zip("ab", frames, strict=True)
    ]
    return ends[0].join(ends[1], on=on, how="full", coalesce=True)


def _sites(a: View, b: View, moves: pl.DataFrame) -> pl.DataFrame:
    kept = ["state", "serves", "capacity_bps", "target_bps", "load_bps", "overflow_bps"]
    found = _joined([a.sites, b.sites], ["region", "site"], kept)
    for way, column in (("from", "out_bps"), ("to", "in_bps")):
        total = moves.group_by("region", site=way).agg(pl.col("moved_bps").sum().alias(column))
        found = found.join(total, on=["region", "site"], how="left")
        found = found.with_columns(pl.col(column).fill_null(0))
    grown = pl.col("load_bps_b").fill_null(0) - pl.col("load_bps_a").fill_null(0)
    traffic = pl.max_horizontal("out_bps", "in_bps")
    return found.sort(traffic, grown.abs(), "region", "site", descending=[True, True, False, False])


def _appliances(a: View, b: View) -> pl.DataFrame:
    kept = ["state", "weight", "reason"]
    ends = []
    for view in (a, b):
        load = view.sites.select("region", "site", "load_bps")
        of_site = view.appliances.join(load, on=["region", "site"], how="left")
        ends.append(
            of_site.with_columns(
                load_bps=part_of("load_bps", "weight", TEN_THOUSANDTHS).fill_null(0)
            )
        )
    found = _joined(ends, ["region", "site", "appliance"], [*kept, "load_bps"])
    other = [pl.col(f"{name}_a").ne_missing(pl.col(f"{name}_b")) for name in kept]
    shift = pl.col("load_bps_b").fill_null(0) - pl.col("load_bps_a").fill_null(0)
    return found.filter(pl.any_horizontal(other)).sort(
        shift.abs(), "region", "site", "appliance", descending=[True, False, False, False]
    )


def _unserved(a: View, b: View) -> pl.DataFrame:
    ends = [
        view.shares.filter(pl.col("site").is_null())
        .group_by("region", "class")
        .agg(bps=pl.col("assigned_bps").sum())
        for view in (a, b)
    ]
    found = _joined(ends, ["region", "class"], ["bps"])
    return found.with_columns(pl.col("bps_a", "bps_b").fill_null(0)).sort("region", "class")
