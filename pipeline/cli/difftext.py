"""What `diff` and `whatif` print: the ranked rows as tables for people, or as JSON, one a line."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.cli.common import bold, emit, iso, note, say, si, table
from pipeline.replay.diff import Diff
from pipeline.replay.ranked import Row, origin, ranked, strained
from pipeline.replay.whatif import WhatIf

OPEN_LOOP = (
    "An open loop: the plane decides as it would have, and the recorded viewers do not react."
)
NOWHERE = "(nowhere)"


def emit_diff(diff: Diff, top: int, found: WhatIf | None = None) -> None:
    """One object a line: `kind` and what is of it, a summary in the end."""
    if found is not None:
        for row in strained(found):
            times = {"first": iso(row.pop("first_ms")), "worst": iso(row.pop("worst_ms"))}
            emit({"kind": "strain", "strain": row.pop("kind"), **row, **times})
    for kind, rows in ranked(diff, top).items():
        for row in rows:
            emit({"kind": kind, **row})
    summary = {"kind": "summary", **diff.summary()}
    if found is not None:
        summary |= {
            "open_loop": True,
            "change": found.what,
            "from": iso(found.from_ms),
            "at": iso(found.at_ms),
            "worst": [found.compared.worst_bps(end) for end in "ab"],
            "harms": found.harms,
        }
    emit({**summary, "a": _timed(origin(diff.a)), "b": _timed(origin(diff.b))})


def _timed(row: Row) -> Row:
    cells = {
        partition: {**cell, "at_ms": None, "at": iso(cell["at_ms"])}
        for partition, cell in row["cells"].items()
    }
    for cell in cells.values():
        del cell["at_ms"]
    return {**row, "at": iso(row["at_ms"]), "cells": cells}


def tell_diff(diff: Diff, top: int, found: WhatIf | None = None) -> None:
    """Tables, at most `top` rows each."""
    for name in ("A", "B"):
        say(f"{bold(name)}  {describe(diff, name)}")
    say()
    for line in headlines(diff, found):
        say(line)
    if found is not None:
        say(OPEN_LOOP)
    for one in tables(diff, top, found):
        say()
        say(bold(one.title))
        table(one.header, one.rows, right=one.right)
        if one.total > len(one.rows):
            note(f"and {one.total - len(one.rows):,} more: --top shows more rows")


def describe(diff: Diff, end: str) -> str:
    """One end in a line: what, when, by which code and configurations."""
    view = diff.a if end == "A" else diff.b
    configs = sorted({cell.config_hash for cell in view.cells})
    return (
        f"{view.source}, {iso(view.at_ms)}, code version {view.code_version}, "
        f"configuration {', '.join(configs)}"
    )


def headlines(diff: Diff, found: WhatIf | None = None) -> list[str]:
    """What matters, in sentences."""
    total = diff.summary()
    demand, unserved, overflow = (
        [si(one, "bps") for one in total[name]]
        for name in ("demand_bps", "unserved_bps", "overflow_bps")
    )
    prefixes = total["prefixes"]
    lines = [
        f"{si(total['moved_bps'], 'bps')} of {demand[1]} moved to another site "
        f"(demand was {demand[0]}).",
        f"{prefixes['with_moved_traffic']:,} of {prefixes['of'][1]:,} prefixes with traffic that "
        f"moved; {prefixes['regrouped']:,} with other sites, {prefixes['added']:,} new, "
        f"{prefixes['removed']:,} gone.",
        f"Overloads: {total['overloads_made']} made, {total['overloads_cured']} cured; "
        f"above target without room {overflow[0]} before, {overflow[1]} after.",
        f"Served by nobody: {unserved[0]} before, {unserved[1]} after.",
    ]
    lines += [
        f"The table of {region} is held back ({reason}): what the routes say is not followed there."
        for region, reason in total["held"][1].items()
    ]
    if found is not None:
        was, would = (found.compared.worst_bps(end) for end in "ab")
        lines += [
            f"At worst from {iso(found.from_ms)} on: above target without room "
            f"{si(was['overflow_bps'], 'bps')} as it was, {si(would['overflow_bps'], 'bps')} "
            f"with the change; served by nobody {si(was['unserved_bps'], 'bps')} and "
            f"{si(would['unserved_bps'], 'bps')}.",
            "The change makes an overload, or leaves unserved what was served."
            if found.harms
            else "The change overloads nothing, and all that was served still is.",
        ]
    return lines


# -- tables ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as text. `right`: as for common.table; `total`: rows there are."""

    title: str
    header: tuple[str, ...]
    right: str
    rows: list[list[str]]
    total: int


def tables(diff: Diff, top: int, found: WhatIf | None = None) -> list[Table]:
    """Those that have any rows, at most `top` of each."""
    rows = ranked(diff, top)
    made = [
        _strain(strained(found) if found else [], top),
        _moves(rows["move"], top),
        _overloads(rows["overload"], top),
        _unserved(rows["unserved"], top),
        _sites(rows["site"], top),
        _appliances(rows["appliance"], top),
        _prefixes(rows["prefix"], diff.prefixes.height),
    ]
    return [one for one in made if one.rows]


def _strain(rows: list[Row], top: int) -> Table:
    header = ("", "", "first", "for", "worst", "at", "worst as it was")
    return Table(
        "Too much with the change",
        header,
        "   rr r",
        [
            [
                row["site"] or f"{row['region']} {row['class']}, served by nobody",
                row["kind"].lower(),
                iso(row["first_ms"]),
                f"{row['for_ms'] / 1000:.1f} s" + ("" if row["ends"] else ", to the end"),
                si(row["worst_bps"], "bps"),
                iso(row["worst_ms"]),
                si(row["was_bps"], "bps"),
            ]
            for row in rows[:top]
        ],
        len(rows),
    )


def _moves(rows: list[Row], top: int) -> Table:
    columns = ("moved_bps", "vod_bps", "live_bps", "game_bps")
    return Table(
        "Traffic that moved",
        ("from", "to", "moved", "VOD", "LIVE", "GAME"),
        "  rrrr",
        [
            [row["from"] or NOWHERE, row["to"] or NOWHERE, *(_bps(row[name]) for name in columns)]
            for row in rows[:top]
        ],
        len(rows),
    )


def _overloads(rows: list[Row], top: int) -> Table:
    pairs = ("overflow_bps", "load_bps", "target_bps")
    return Table(
        "Overloads: above target, and no site with room",
        ("site", "", "too much", "after", "load", "after", "target", "after"),
        "  rrrrrr",
        [
            [
                row["site"],
                row["overload"].lower(),
                *(_bps(one) for name in pairs for one in row[name]),
            ]
            for row in rows[:top]
        ],
        len(rows),
    )


def _unserved(rows: list[Row], top: int) -> Table:
    return Table(
        "Served by nobody",
        ("region", "class", "before", "after"),
        "  rr",
        [[row["region"], row["class"], *map(_bps, row["bps"])] for row in rows[:top]],
        len(rows),
    )


def _sites(rows: list[Row], top: int) -> Table:
    return Table(
        "Sites",
        ("site", "state of load", "serves", "capacity", "load", "after", "moved out", "moved in"),
        "   rrrrr",
        [
            [
                row["site"],
                _change(row["state"]),
                _change(row["serves"]),
                _change([_bps(one) for one in row["capacity_bps"]]),
                *map(_bps, row["load_bps"]),
                _bps(row["out_bps"]),
                _bps(row["in_bps"]),
            ]
            for row in rows[:top]
        ],
        len(rows),
    )


def _appliances(rows: list[Row], top: int) -> Table:
    return Table(
        "Appliances",
        ("appliance", "state", "reason", "weight", "after", "load", "after"),
        "   rrrr",
        [
            [
                row["appliance"],
                _change(row["state"]),
                _change(row["reason"]),
                *("-" if weight is None else f"{weight / 100:.2f} %" for weight in row["weight"]),
                *map(_bps, row["load_bps"]),
            ]
            for row in rows[:top]
        ],
        len(rows),
    )


def _prefixes(rows: list[Row], total: int) -> Table:
    return Table(
        "Prefixes",
        ("prefix", "", "moved", "draws", "from", "to"),
        "  rr",
        [
            [
                row["prefix"],
                row["change"].lower(),
                _bps(row["moved_bps"]),
                _bps(row["demand_bps"]),
                _names(row["from"]),
                _names(row["to"]),
            ]
            for row in rows
        ],
        total,
    )


def _bps(value: int | None) -> str:
    return "-" if value is None else si(value, "bps")


def _names(sites: list[str | None]) -> str:
    named = [site or NOWHERE for site in sites]
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")


def _change(pair: Sequence[str | None]) -> str:
    """`UP`, or `UP -> DOWN` where it differs."""
    before, after = (one or "-" for one in pair)
    return before if before == after else f"{before} -> {after}"
