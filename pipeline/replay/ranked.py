"""A diff as rows that can be printed: by kind, the largest traffic first, names and times as text.

The one form in which a table for people, JSON and a page say the same."""

from typing import Any

import polars as pl

from pipeline.regions import TEN_THOUSANDTHS
from pipeline.replay.diff import Diff
from pipeline.replay.portions import part_of
from pipeline.replay.view import BY_CLASS, View, by_class
from pipeline.replay.whatif import WhatIf
from pipeline.wire.address import format_prefix, prefix_bytes

Row = dict[str, Any]
_ENDS = ("_a", "_b")


def ranked(diff: Diff, prefixes: int) -> dict[str, list[Row]]:
    """move, overload, unserved, site, appliance: all; prefix: so many of the first. What is of A
    and of B is a pair; a site that is null is nowhere."""
    return {
        "move": diff.moves.to_dicts(),
        "overload": paired(
            diff.overloads.select(
                *("region", "site", "overload"),
                pl.col("^(overflow|load|target|capacity)_bps_[ab]$"),
            )
        ),
        "unserved": paired(diff.unserved),
        "site": paired(diff.changed_sites),
        "appliance": paired(diff.appliances),
        "prefix": _prefixes(diff, prefixes),
    }


def strained(found: WhatIf) -> list[Row]:
    """What a what-if made worse."""
    return found.compared.worse.to_dicts()


def origin(view: View) -> Row:
    """Where a view comes from."""
    return {
        "source": view.source,
        "at_ms": view.at_ms,
        "code_version": view.code_version,
        "edgesteer": view.edgesteer,
        "cells": {
            cell.partition: {
                "cut": cell.cut,
                "at_ms": cell.at_ms,
                "config": cell.config_hash,
                "hash": cell.table_hash,
            }
            for cell in view.cells
        },
    }


def paired(frame: pl.DataFrame) -> list[Row]:
    """NAME_a and NAME_b as one list NAME."""
    rows = []
    for row in frame.to_dicts():
        made: Row = {}
        for name, value in row.items():
            if name.endswith(_ENDS):
                made.setdefault(name[:-2], []).append(value)
            else:
                made[name] = value
        rows.append(made)
    return rows


def _prefixes(diff: Diff, number: int) -> list[Row]:
    first = diff.prefixes.head(number).with_row_index("row")
    lost, gained = _ways(diff, first)
    words = (first.get_column(name).to_numpy() for name in ("hi", "lo", "length"))
    texts = [format_prefix(raw.tobytes()) for raw in prefix_bytes(*words)]
    return [
        {
            "region": one["region"],
            "prefix": text,
            "change": one["change"],
            "demand_bps": one["demand_bps"],
            "moved_bps": one["moved_bps"],
            "group": [
                None if group is None else f"{group:016x}"
                for group in (one["group_a"], one["group_b"])
            ],
            "from": lost.get(one["row"], []),
            "to": gained.get(one["row"], []),
        }
        for one, text in zip(first.to_dicts(), texts, strict=True)
    ]


def _ways(diff: Diff, first: pl.DataFrame) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Row -> the sites that lose and that gain of its own demand, the most first; where it draws
    nothing, by the shares alone."""
    key = ["region", "hi", "lo", "length"]
    views = [view.prefixes.select(*key, *BY_CLASS) for view in (diff.b, diff.a)]
    demand = pl.concat([one.join(first, on=key, how="semi") for one in views])
    asked = first.drop("demand_bps").join(
        demand.unique(key, keep="first", maintain_order=True), on=key
    )
    nothing = pl.sum_horizontal(BY_CLASS) == 0
    asked = asked.with_columns(
        pl.when(nothing).then(TEN_THOUSANDTHS).otherwise(pl.col(name)).alias(name)
        for name in BY_CLASS
    )
    placed = []
    for sign, end, view in ((-1, "a", diff.a), (1, "b", diff.b)):
        long = by_class(asked.filter(pl.col(f"group_{end}").is_not_null()),
                        ["row", "region", f"group_{end}"])  # fmt: skip
        part = long.join(
            view.shares.select("region", "class", "site", "share", **{f"group_{end}": "group"}),
            on=["region", "class", f"group_{end}"],
        )
        bits = sign * part_of("demand_bps", "share", TEN_THOUSANDTHS)
        placed.append(part.select("row", "site", bits=bits))
    sums = pl.concat(placed).group_by("row", "site").agg(pl.col("bits").sum())
    sums = sums.sort(pl.col("bits").abs(), "site", descending=[True, False])
    found: tuple[dict[int, list[str]], dict[int, list[str]]] = {}, {}
    for row, site, bits in sums.filter(pl.col("bits") != 0).iter_rows():
        found[bits > 0].setdefault(row, []).append(site)
    return found
