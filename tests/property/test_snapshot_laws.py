"""L2: a cell that is stopped at any cut, turned into bytes and made again from them goes on with
the same bytes as one that never stopped."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.cell import Cell
from pipeline.cut import Cause
from pipeline.decide import groups
from pipeline.reasons import Reason
from pipeline.state import codec, penalties, routes
from tests.snapshot_world import decoded, go_on, said, to_file, with_stops

ROOT = Path(__file__).parents[2]
SEEDS = (1, 2, 3)
#: One in so many cuts is tried as the only stop (each means all later cuts again).
STRIDE = 18
CASES = [("usual", 1), *(("troubled", seed) for seed in SEEDS)]


@pytest.fixture(autouse=True, scope="module")
def little_patience() -> None:
    """Routes are numbered anew, and rankings let go of, in a world as small as this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routes, "_SPARE", 64)
        patch.setattr(groups, "_SPARE", 16)
        patch.setattr(penalties, "_FEW", 16)
        yield


@cache
def uninterrupted(kind: str, seed: int) -> list[str]:
    return [said(effects) for _, effects in go_on(Cell(0, 1), decoded(kind, seed))]


@cache
def snapshots(kind: str, seed: int) -> list[dict[str, bytes]]:
    """What a cell that never stopped is as bytes after each cut."""
    return [cell.to_bytes() for cell, _ in go_on(Cell(0, 1), decoded(kind, seed))]


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_l2_a_stop_after_every_cut_changes_nothing(kind: str, seed: int) -> None:
    cuts = decoded(kind, seed)
    run = with_stops(cuts, range(len(cuts)))
    for position, (cell, effects) in enumerate(run):
        assert said(effects) == uninterrupted(kind, seed)[position], f"cut {position}"
        _same(cell.to_bytes(), snapshots(kind, seed)[position], position)


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_l2_stops_anywhere_change_nothing(data: st.DataObject) -> None:
    kind, seed = data.draw(st.sampled_from(CASES))
    cuts = decoded(kind, seed)
    stops = data.draw(st.sets(st.integers(0, len(cuts) - 1), max_size=4))
    run = with_stops(cuts, stops)
    assert [said(effects) for _, effects in run] == uninterrupted(kind, seed)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_l2_a_stop_after_one_cut_changes_nothing_in_all_that_follow(kind: str, seed: int) -> None:
    cuts = decoded(kind, seed)
    for stop in range(seed, len(cuts), STRIDE):
        cell = Cell.from_bytes(0, 1, snapshots(kind, seed)[stop])
        told = [said(effects) for _, effects in go_on(cell, cuts[stop + 1 :])]
        assert told == uninterrupted(kind, seed)[stop + 1 :], f"stop {stop}"
        _same(cell.to_bytes(), snapshots(kind, seed)[-1], stop)


@pytest.mark.parametrize("hash_seed", ["0", "7"])
def test_l2_another_process_goes_on_with_the_same_bytes(tmp_path: Path, hash_seed: str) -> None:
    """The other process has the usual patience with dead rows, so this one has it here, too."""
    kind, seed, stop = "usual", 1, 27
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routes, "_SPARE", 65_536)
        patch.setattr(groups, "_SPARE", 65_536)
        patch.setattr(penalties, "_FEW", 1024)
        run = list(go_on(Cell(0, 1), decoded(kind, seed)[: stop + 1]))
        cell = run[-1][0]
        sections = cell.to_bytes()
        to_file(sections, tmp_path / "snapshot")
        told = [said(effects) for _, effects in go_on(cell, decoded(kind, seed)[stop + 1 :])]
    code = (
        "import sys, orjson; from tests.snapshot_world import resume; "
        f"print(orjson.dumps(resume(sys.argv[1], {kind!r}, {seed}, {stop})).decode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "snapshot")],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "POLARS_MAX_THREADS": "1"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )
    last = sha256(repr(cell.to_bytes()).encode()).hexdigest()
    assert orjson.loads(done.stdout) == [*told, last]


def test_l1_two_runs_have_the_same_snapshots() -> None:
    for kind, seed in CASES[:2]:
        again = go_on(Cell(0, 1), decoded(kind, seed))
        for position, (cell, _) in enumerate(again):
            _same(cell.to_bytes(), snapshots(kind, seed)[position], position)


def test_what_is_remembered_of_pieces_is_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that only grow are hashed once: whoever changes one otherwise must say so."""
    monkeypatch.setattr(codec, "PIECE_BYTES", 64)
    for kind, seed in CASES:
        for cell, _ in go_on(Cell(0, 1), decoded(kind, seed)):
            for name, section in cell.to_sections().items():
                for piece in section.pieces:
                    assert xxhash.xxh3_64_intdigest(piece.data) == piece.digest, (name, piece.part)


#: What a restored cell has otherwise: caches that fill again, and the order of look-ups.
MADE_AGAIN = {
    *("KeyIndex._digests", "Rankings._digests", "Inheritance._digests", "ServedGroups._digests"),
    *(
        "Ids._slots",
        "Ids._names",
        "Ids._texts",
        "KeyIndex._slots",
        "Routes._next",
        "Routes._head",
        "RegionTable._in_order",
    ),
    *(
        "Region._blocks",
        "ServedGroups._room",
        "PrefixTree._by_id",
        "PrefixTree.version",
        "PrefixTree._news",
        "DemandRing.version",
        "DemandRing._whole",
        "DemandRing._recent",
        "DemandRing._seen_from",
        "Demand._tidied",
        "Demand._level",
        "Demand._level_of",
        "Demand._waiting",
        "Paths._prefixes",
        "Paths._room",
    ),
}
#: Dictionaries whose order nobody sees.
UNORDERED = {
    *("SiteMemory._spread", "Fleet._site_links", "Fleet.site_regions"),
    *("Drains._by_id", "Sharing.claims", "Sharing.granted", "Sharing.given", "Sharing.told"),
}
#: Arrays with room behind what counts, which a restored cell does not have; by their first rows.
WITH_ROOM = {
    *("KeyIndex._columns", "Routes._session_site", "Routes._session_peer", "Routes._attribute"),
    *("Rankings._id", "Rankings._start", "Rankings._count", "Rankings._at", "Rankings._entries"),
    *("Inheritance._pair_group", "RegionTable._own", "RegionTable._group"),
    *("Damping._up", "Penalties._penalty", "Penalties._at_ms"),
    *("RegionTable._references", "PrefixTree.parent", "DemandRing.drawn", "Demand._ahead"),
}


@pytest.mark.parametrize(("kind", "seed"), CASES[:3])
def test_whatever_a_cell_has_comes_back(kind: str, seed: int) -> None:
    """Attribute by attribute, so that a new one cannot be forgotten."""
    for position, (cell, _) in enumerate(go_on(Cell(0, 1), decoded(kind, seed))):
        if position % 5 == 0:
            assert not list(_differences(cell, Cell.from_bytes(0, 1, cell.to_bytes()), "cell"))


def _differences(one: Any, other: Any, where: str, room: bool = False) -> Iterator[str]:
    """The places at which two objects are not the same."""
    if type(one) is not type(other):
        yield f"{where}: {type(one)}, {type(other)}"
    elif isinstance(one, (np.ndarray, pl.DataFrame)):
        if not _equal(one, other, room):
            yield where
    elif (parts := _parts(one)) is not None:
        others = _parts(other)
        if [name for name, *_ in parts] != [name for name, *_ in others]:
            yield f"{where}: {len(parts)} parts, {len(others)} parts"
        for (name, inner, roomy), (_, its, _) in zip(parts, others, strict=False):
            yield from _differences(inner, its, f"{where}.{name}", room or roomy)
    elif one != other:
        yield f"{where}: {one}, {other}"


def _equal(one: Any, other: Any, room: bool) -> bool:
    if isinstance(one, pl.DataFrame):
        return one.equals(other) and one.schema == other.schema
    if room:
        common = tuple(slice(min(sizes)) for sizes in zip(one.shape, other.shape, strict=True))
        one, other = one[common], other[common]
    return one.dtype == other.dtype and np.array_equal(one, other)


def _parts(one: Any) -> list[tuple[Any, Any, bool]] | None:
    """(name, value, whether it has room) of what an object consists of; None: it is a value."""
    if isinstance(one, dict):
        return [(key, value, False) for key, value in one.items()]
    if isinstance(one, list | tuple):
        return [(number, value, False) for number, value in enumerate(one)]
    if not type(one).__module__.startswith("pipeline.") or isinstance(one, (Enum, BaseModel)):
        return None
    kind = type(one).__name__
    names = getattr(one, "__dict__", None) or type(one).__slots__
    parts = []
    for name in sorted(names):
        known, value = f"{kind}.{name}", getattr(one, name)
        if known not in MADE_AGAIN:
            value = dict(sorted(value.items())) if known in UNORDERED else value
            parts.append((name, value, known in WITH_ROOM))
    return parts


def test_an_empty_cell_is_restored() -> None:
    sections = Cell(0, 1).to_bytes()
    assert Cell.from_bytes(0, 1, sections).to_bytes() == sections


def test_the_logs_hold_what_a_snapshot_may_miss() -> None:
    """That the runs above meet held tables, flapping, panic, full sites, renumbering and all."""
    seen: Counter[str] = Counter()
    for kind, seed in CASES:
        generation = free = behind = 0
        for (cut, _), (cell, effects) in zip(
            decoded(kind, seed), go_on(Cell(0, 1), decoded(kind, seed)), strict=True
        ):
            seen.update(f"{one.kind} {one.reason}" for one in effects.verdicts)
            seen[cut.cause] += 1
            seen["suppressed"] += bool(cell.health.suppressed.any())
            seen["routes that flap"] += len(cell.routes.damping.routes.suppressed)
            seen["regions"] += len(cell.regions) > 2
            for region in cell.regions.values():
                seen["held at an urgent cut"] += (
                    cut.cause is Cause.URGENT and region.guard.held_reason is not None
                )
                behind += region.table._seen[1] not in (-1, cell.routes.generation)
                free += len(region.table._made.groups._free)
            generation = cell.routes.generation
        seen["renumbered"] += generation
        seen["free places"] += free
        seen["a table behind its routes' numbers"] += behind
    wanted = [
        *("suppressed", "regions", "held at an urgent cut", "renumbered", "free places"),
        *("a table behind its routes' numbers", Cause.URGENT, Cause.TICK, Cause.TAKEOVER),
        *(f"table {reason}" for reason in (Reason.EMPTY_TABLE, Reason.MOVED_TOO_MUCH)),
        *(f"table {Reason.RELEASED}", f"site {Reason.PANIC}", f"site {Reason.SITE_FULL}"),
        *(f"session {Reason.ROUTE_DAMPED}", f"session {Reason.RELEASED}", "routes that flap"),
    ]
    assert not [what for what in wanted if not seen[what]], seen


def _same(one: dict[str, bytes], other: dict[str, bytes], position: int) -> None:
    differing = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    assert not differing, f"after cut {position}"
    assert list(one) == list(other)
