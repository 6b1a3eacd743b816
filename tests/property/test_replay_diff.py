"""Diffs of seeded worlds, against one reckoned client by client with fractions."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import polars as pl
import pytest

from pipeline.replay.archive import Recording
from pipeline.replay.diff import Diff, diff
from pipeline.replay.view import BY_CLASS, View
from pipeline.replay.watch import watched
from tests.cell_world import make_log
from tests.recorded import write

CUTS = (6, 18, 27, 33, 49)
SEEDS = range(4)


@pytest.fixture(params=SEEDS)
def views(request: pytest.FixtureRequest, tmp_path: Path) -> list[View]:
    log = make_log(request.param, 50)
    times = [log.cuts[number].at_ms for number in CUTS]
    with Recording(write(tmp_path / "log", log, [])) as recording:
        watch = watched(recording, times)
        return [watch.view(at, str(at)) for at in times]


def test_a_view_does_not_differ_from_itself(views: list[View]) -> None:
    for view in views:
        found = diff(view, view)
        assert found.equal
        summary = found.summary()
        assert (summary["moved_bps"], summary["overloads_made"]) == (0, 0)
        assert summary["unserved_bps"][0] == summary["unserved_bps"][1]


def test_every_bit_that_a_client_draws_is_assigned_once(views: list[View]) -> None:
    for view in views:
        drawn = sum(view.blocks.get_column(name).sum() for name in BY_CLASS)
        assert view.shares.get_column("assigned_bps").sum() == drawn
        keys = view.shares.group_by("region", "group", "class")
        sums = keys.agg(pl.col("assigned_bps").sum(), pl.col("demand_bps").first())
        assert sums.filter(pl.col("assigned_bps") != pl.col("demand_bps")).is_empty()


def test_what_sites_lose_is_what_sites_gain(views: list[View]) -> None:
    for found in pairs(views):
        total = found.summary()["moved_bps"]
        nowhere = [found.moves.filter(pl.col(way).is_null()) for way in ("from", "to")]
        away, back = (one.get_column("moved_bps").sum() for one in nowhere)
        assert found.sites.get_column("out_bps").sum() + away == total
        assert found.sites.get_column("in_bps").sum() + back == total
        assert (found.moves.get_column("moved_bps") > 0).all()


def test_moves_are_those_of_each_client_block(views: list[View]) -> None:
    for found in pairs(views):
        expected, cases = by_hand(found.a, found.b)
        got = Counter(
            {
                (one["region"], one["from"], one["to"]): one["moved_bps"]
                for one in found.moves.to_dicts()
            }
        )
        for key in expected.keys() | got.keys():
            assert abs(expected[key] - got[key]) <= cases


def test_forth_and_back_move_the_same_where_demand_is_the_same(views: list[View]) -> None:
    for found in pairs(views):
        b = found.b
        frames = {name: getattr(found.a, name) for name in ("prefixes", "shares")}
        a = View("a", b.cells, 1, "", **{**b.frames(), **frames})
        forth, back = diff(a, b), diff(b, a)
        turned = back.moves.select(
            "region", pl.col("to").alias("from"), pl.col("from").alias("to"), "moved_bps"
        )
        both = forth.moves.select("region", "from", "to", "moved_bps").join(
            turned, on=["region", "from", "to"], how="full", nulls_equal=True, coalesce=True
        )
        gap = (both["moved_bps"].fill_null(0) - both["moved_bps_right"].fill_null(0)).abs()
        cases = len(forth.a.blocks) * 3
        assert (gap <= cases).all()


def pairs(views: list[View]) -> list[Diff]:
    return [diff(a, b) for a in views for b in views if a is not b]


def by_hand(a: View, b: View) -> tuple[Counter, int]:
    """(region, from, to) -> bits/s as fractions, and how many cases there are."""
    tables = [table(view) for view in (a, b)]
    flows: Counter = Counter()
    cases = set()
    for block in b.blocks.to_dicts():
        address = block["hi"] << 64 | block["lo"]
        groups = [longest(prefixes, block["region"], address) for prefixes, _ in tables]
        for klass, name in zip(("VOD", "LIVE", "GAME"), BY_CLASS, strict=True):
            if not block[name]:
                continue
            cases.add((block["region"], *groups, klass))
            before, after = (
                shares.get((block["region"], group, klass)) or {None: 10_000}
                for group, (_, shares) in zip(groups, tables, strict=True)
            )
            by = {s: after.get(s, 0) - before.get(s, 0) for s in before.keys() | after.keys()}
            total = sum(part for part in by.values() if part > 0)
            for source in (s for s in by if by[s] < 0):
                for target in (s for s in by if by[s] > 0):
                    part = Fraction(-by[source] * by[target], total * 10_000)
                    flows[block["region"], source, target] += block[name] * part
    return flows, len(cases)


def table(view: View) -> tuple[dict, dict]:
    prefixes = {
        (one["region"], one["length"], (one["hi"] << 64 | one["lo"]) >> (128 - one["length"])): one[
            "group"
        ]
        for one in view.prefixes.to_dicts()
    }
    shares: dict = {}
    for one in view.shares.to_dicts():
        shares.setdefault((one["region"], one["group"], one["class"]), {})[one["site"]] = one[
            "share"
        ]
    return prefixes, shares


def longest(prefixes: dict, region: str, address: int) -> int | None:
    for length in range(128, 0, -1):
        found = prefixes.get((region, length, address >> (128 - length)))
        if found is not None:
            return found
    return None
