"""What a plane could not serve, cut by cut, and how that differs between two folds of one log.

Idea: a moment can be chosen so that all looks well; an SRE asks for the worst of a whole span. So
after every cut two things are noted: the load above target for which a site found no room, and the
demand of a class in a region that no site served. Two folds have the same cuts, which makes them
comparable cut by cut: what a change makes is what is there in one and less or not in the other.

Demand under addresses that no prefix covers is not looked for at each cut (it would be a longest
match for all of them); the views of a diff have it.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from pipeline.decide.sites import CLASS_NAMES
from pipeline.replay.fold import Step
from pipeline.replay.view import overflow_bps

_KEY = ["partition", "cut", "at_ms", "region"]
_SCHEMA: dict[str, Any] = {
    **{"partition": pl.Int64, "cut": pl.Int64, "at_ms": pl.Int64, "region": pl.String},
    **{"site": pl.String, "class": pl.String, "bps": pl.Int64},
}
#: A row of a cut: an overflow has a site, what is unserved a class.
Row = tuple[int, int, int, str, str | None, str | None, int]


@dataclass(slots=True)
class Strain:
    """What was noted from `from_ms` on, and the times of all cuts by cell."""

    from_ms: int
    rows: list[Row] = field(default_factory=list)
    cuts: list[tuple[int, int, int]] = field(default_factory=list)

    def note(self, step: Step) -> None:
        """Look at a cell after a cut."""
        if step.cut.at_ms < self.from_ms:
            return
        cell, at = step.cell, (step.cell.partition, step.cut.number, step.cut.at_ms)
        self.cuts.append(at)
        for region in cell.regions.values():
            overflow = overflow_bps(region, len(cell.fleet.sites), step.config)
            self.rows += [
                (*at, region.name, cell.fleet.sites.names[site], None, int(overflow[site]))
                for site in np.flatnonzero(overflow).tolist()
            ]
            groups = region.shares.groups
            lost = np.where(groups.alive[:, None] & (groups.home < 0), groups.demand_bps, 0)
            self.rows += [
                (*at, region.name, None, CLASS_NAMES[klass], bps)
                for klass, bps in enumerate(lost.sum(axis=0).tolist())
                if bps
            ]

    def frame(self) -> pl.DataFrame:
        """The rows as columns."""
        return pl.DataFrame(self.rows, schema=_SCHEMA, orient="row")


@dataclass(frozen=True, slots=True)
class Compared:
    """What two folds could not serve, up to `until_ms`.

    worse       region, site (or null), class (or null), kind (MADE: there was none; WORSE),
                first_ms, for_ms, worst_bps, worst_ms, was_bps (the worst without the change), ends
                (whether it is over at the end)
    over_time   at_ms, overflow_a, unserved_a, overflow_b, unserved_b: bits/s of all cells
    """

    worse: pl.DataFrame
    over_time: pl.DataFrame

    def worst_bps(self, end: str) -> dict[str, int]:
        """The most that at one moment found no room, and that nobody served."""
        found = self.over_time.select(
            pl.col(f"{name}_{end}").max().fill_null(0) for name in ("overflow", "unserved")
        ).row(0)
        return {"overflow_bps": found[0], "unserved_bps": found[1]}


def compare(a: Strain, b: Strain, until_ms: int) -> Compared:
    """`a` as it was, `b` with the change."""
    cuts = (
        pl.DataFrame(
            a.cuts, schema={name: _SCHEMA[name] for name in ("partition", "cut", "at_ms")},
            orient="row",
        )
        .sort("partition", "cut")
        .with_columns(next_ms=pl.col("at_ms").shift(-1).over("partition").fill_null(until_ms))
    )  # fmt: skip
    rows = a.frame().join(
        b.frame(), on=[*_KEY, "site", "class"], how="full", coalesce=True, nulls_equal=True
    )
    rows = rows.rename({"bps": "bps_a", "bps_right": "bps_b"}).with_columns(
        pl.col("bps_a", "bps_b").fill_null(0)
    )
    return Compared(_worse(rows, cuts, until_ms), _over_time(rows, cuts))


def _worse(rows: pl.DataFrame, cuts: pl.DataFrame, until_ms: int) -> pl.DataFrame:
    what = ["region", "site", "class"]
    rows = rows.join(cuts.select("partition", "cut", "next_ms"), on=["partition", "cut"])
    rows = rows.sort("at_ms", *what)
    was = rows.group_by(what).agg(was_bps=pl.col("bps_a").max())
    top = pl.col("bps_b").arg_max()
    return (
        rows.filter(pl.col("bps_b") > pl.col("bps_a"))
        .group_by(what, maintain_order=True)
        .agg(
            kind=pl.when((pl.col("bps_a") == 0).any())
            .then(pl.lit("MADE"))
            .otherwise(pl.lit("WORSE")),
            first_ms=pl.col("at_ms").min(),
            for_ms=(pl.col("next_ms") - pl.col("at_ms")).sum(),
            worst_bps=pl.col("bps_b").get(top),
            worst_ms=pl.col("at_ms").get(top),
            ends=pl.col("next_ms").max() < until_ms,
        )
        .join(was, on=what, how="left", nulls_equal=True)
        .sort("worst_bps", *what, descending=[True, False, False, False])
    )


def _over_time(rows: pl.DataFrame, cuts: pl.DataFrame) -> pl.DataFrame:
    """Sums over all cells as each cut changes the part of its own cell."""
    site = pl.col("site").is_not_null()
    sums = rows.group_by("partition", "cut").agg(
        pl.col(f"bps_{end}").filter(mask).sum().alias(f"{name}_{end}")
        for end in "ab"
        for name, mask in (("overflow", site), ("unserved", ~site))
    )
    names = [f"{name}_{end}" for end in "ab" for name in ("overflow", "unserved")]
    steps = cuts.join(sums, on=["partition", "cut"], how="left").with_columns(
        pl.col(names).fill_null(0)
    )
    steps = steps.sort("partition", "cut").with_columns(
        pl.col(name) - pl.col(name).shift(1, fill_value=0).over("partition") for name in names
    )
    return (
        steps.group_by("at_ms")
        .agg(pl.col(names).sum())
        .sort("at_ms")
        .with_columns(pl.col(names).cum_sum())
    )
