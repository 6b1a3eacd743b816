"""What differs between two views, against figures reckoned by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.errors import UsageError
from pipeline.replay.diff import Diff, diff
from pipeline.replay.operands import Operand
from pipeline.replay.portions import portions
from pipeline.replay.ranked import ranked
from pipeline.replay.view import SCHEMAS, View
from pipeline.replay.watch import watched
from tests import diffworld
from tests.cell_world import GBPS
from tests.diffworld import CUTS, FAR, NEAR, moment

MAPPED = 0xFFFF << 32


def view(
    shares: dict[int, dict[str, int]],
    draws: dict[str, tuple[int, int]],
    sites: dict[str, dict[str, Any]] | None = None,
) -> View:
    """Region eu. `shares`: group -> site -> ten-thousandths of VOD; `draws`: network n (n.0.0.0/8)
    -> (group, VOD bits/s); `sites`: columns that are not zero."""
    demand = dict.fromkeys(shares, 0)
    for group, bps in draws.values():
        demand[group] = demand.get(group, 0) + bps
    nets = [(MAPPED | int(net) << 24, group, bps) for net, (group, bps) in draws.items()]
    base = {"region": "eu", "hi": 0, "live_bps": 0, "game_bps": 0}
    rows: dict[str, list[dict[str, Any]]] = {
        "prefixes": [
            {**base, "lo": lo, "length": 104, "group": group, "vod_bps": bps}
            for lo, group, bps in nets
        ],
        "blocks": [{**base, "lo": lo, "vod_bps": bps} for lo, _, bps in nets if bps],
        "shares": [
            {"region": "eu", "group": group, "class": "VOD", "site": site, "share": share,
             "demand_bps": demand[group], "assigned_bps": demand[group] * share // 10_000}
            for group, held in shares.items() for site, share in held.items()
        ],
        "sites": [
            {**dict.fromkeys(SCHEMAS["sites"], 0), "region": "eu", "site": site,
             "state": "ROOM", "serves": "VOD", **columns}
            for site, columns in (sites or {}).items()
        ],
    }  # fmt: skip
    frames = {
        name: pl.DataFrame(rows.get(name, []), schema=schema) for name, schema in SCHEMAS.items()
    }
    return View("by hand", (), 1, "", **frames)


def moved(found: Diff) -> dict[tuple[str | None, str | None], int]:
    return {(one["from"], one["to"]): one["moved_bps"] for one in found.moves.to_dicts()}


def test_traffic_moves_from_the_site_that_loses_share_to_the_one_that_gains() -> None:
    a = view({1: {"x": 10_000}}, {"20": (1, 800)})
    b = view({1: {"x": 2_500, "y": 7_500}}, {"20": (1, 1000)})
    found = diff(a, b)
    assert moved(found) == {("x", "y"): 750}  # of B's demand; what grew did not move
    assert found.summary()["demand_bps"] == [800, 1000]


def test_losers_and_gainers_are_matched_in_proportion() -> None:
    a = view({1: {"x": 6_000, "y": 4_000}}, {"20": (1, 10_000)})
    b = view({1: {"x": 3_000, "y": 3_000, "u": 3_000, "v": 1_000}}, {"20": (1, 10_000)})
    assert moved(diff(a, b)) == {
        ("x", "u"): 2250, ("x", "v"): 750, ("y", "u"): 750, ("y", "v"): 250,
    }  # fmt: skip


def test_bits_that_do_not_divide_go_to_the_largest_remainders() -> None:
    a = view({1: {"x": 10_000}}, {"20": (1, 10)})
    b = view({1: {"u": 3_334, "v": 3_333, "w": 3_333}}, {"20": (1, 10)})
    assert moved(diff(a, b)) == {("x", "u"): 4, ("x", "v"): 3, ("x", "w"): 3}


def test_portions_are_exact_where_products_would_overflow() -> None:
    frame = pl.DataFrame({"key": [1, 1], "total": [9 * 10**18] * 2, "weight": [1, 9_999]})
    parts = portions(frame, ["key"], "total", "weight", 10_000).to_list()
    assert parts == [9 * 10**14, 9 * 10**18 - 9 * 10**14]


def test_a_group_without_shares_is_served_nowhere() -> None:
    a = view({1: {"x": 10_000}}, {"20": (1, 500)})
    b = view({1: {}}, {"20": (1, 500)})
    assert moved(diff(a, b)) == {("x", None): 500}
    assert moved(diff(b, a)) == {(None, "x"): 500}


def test_a_prefix_with_another_group_is_regrouped_and_ranked_by_traffic() -> None:
    shares = {1: {"x": 10_000}, 2: {"y": 10_000}}
    a = view(shares, {"20": (1, 5), "21": (1, 70), "22": (1, 9), "23": (2, 1)})
    b = view(shares, {"20": (2, 5), "21": (2, 70), "22": (1, 9), "24": (2, 0)})
    rows = ranked(diff(a, b), 10)["prefix"]
    assert [(row["prefix"], row["change"], row["moved_bps"]) for row in rows] == [
        ("21.0.0.0/8", "REGROUPED", 70),
        ("20.0.0.0/8", "REGROUPED", 5),
        ("23.0.0.0/8", "REMOVED", 0),
        ("24.0.0.0/8", "ADDED", 0),
    ]
    assert (rows[0]["from"], rows[0]["to"]) == (["x"], ["y"])
    assert rows[0]["group"] == [f"{1:016x}", f"{2:016x}"]


def test_clients_of_a_prefix_that_is_withdrawn_move_to_the_one_around_it() -> None:
    shares = {1: {"x": 10_000}, 2: {"y": 10_000}}
    a, b = view(shares, {"20": (1, 300)}), view(shares, {"20": (1, 300)})
    wide = {"region": "eu", "hi": 0, "lo": MAPPED, "length": 96, "group": 2, "live_bps": 0}
    around = pl.DataFrame([{**wide, "game_bps": 0, "vod_bps": 300}], schema=SCHEMAS["prefixes"])
    b = replace(b, prefixes=around)
    found = diff(a, b)
    assert moved(found) == {("x", "y"): 300}
    changes = dict(found.prefixes.select("change", "moved_bps").iter_rows())
    assert changes == {"ADDED": 300, "REMOVED": 0}


@pytest.mark.parametrize(
    ("before", "after", "capacity", "word"),
    [
        (0, 5, 9, "MADE"),
        (5, 0, 9, "CURED"),
        (5, 6, 9, "WORSE"),
        (6, 5, 9, "LESS"),
        (5, 5, 9, "SAME"),
        (5, 0, 0, "GONE"),
    ],
)
def test_overloads_are_named_by_what_became_of_them(
    before: int, after: int, capacity: int, word: str
) -> None:
    a = view({}, {}, {"x": {"overflow_bps": before, "capacity_bps": 9}, "y": {}})
    b = view({}, {}, {"x": {"overflow_bps": after, "capacity_bps": capacity}, "y": {}})
    assert diff(a, b).overloads.select("site", "overload").rows() == [("x", word)]


def test_a_site_that_fails_in_a_log(tmp_path: Path) -> None:
    made = diffworld.log(failed=range(15, CUTS + 1))
    with diffworld.opened(tmp_path / "log", made) as recording:
        watch = watched(recording, [moment(14), moment(CUTS)])
        found = diff(watch.view(moment(14), "a"), watch.view(moment(CUTS), "b"))
    assert moved(found) == {(NEAR, FAR): 6_240_000_000, (NEAR, None): 3 * GBPS}
    assert found.unserved.rows() == [("eu", "VOD", 0, 3 * GBPS)]
    near = found.changed_sites.row(by_predicate=pl.col("site") == NEAR, named=True)
    assert (near["serves_a"], near["serves_b"]) == ("VOD+LIVE+GAME", "NONE")
    assert (near["out_bps"], near["load_bps_b"], near["capacity_bps_b"]) == (9_240_000_000, 0, 0)
    (appliance,) = found.appliances.to_dicts()
    assert (appliance["appliance"], appliance["state_a"], appliance["state_b"]) == (
        "near-a0", "UP", "DOWN",
    )  # fmt: skip
    assert (appliance["reason_b"], appliance["load_bps_a"]) == ("reported_failed", 9_240_000_000)


def test_an_operand_is_a_file_a_file_at_a_time_or_a_time(tmp_path: Path) -> None:
    odd = tmp_path / "log@-40s"
    odd.touch()
    assert Operand.of(str(odd)).path == odd
    named = Operand.of(f"{odd}@-2s")
    assert (named.path, named.time) == (odd, "-2s")
    assert (Operand.of("@now").path, Operand.of("@now").time) == (None, "now")
    with pytest.raises(UsageError, match="a time belongs behind"):
        Operand.of("file@")
