"""L2: a cell that is stopped at any cut, turned into bytes and made again from them goes on with
the same bytes as one that never stopped."""

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from hashlib import sha256
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cell import Cell
from pipeline.cut import Cause
from pipeline.decide import groups
from pipeline.reasons import Reason
from pipeline.state import routes
from tests.snapshot_world import decoded, go_on, said, to_file, with_stops

ROOT = Path(__file__).parents[2]
SEEDS = (1, 2, 3)
#: One in so many cuts is tried as the only stop (each means all later cuts again).
STRIDE = 9
CASES = [("usual", 1), *(("troubled", seed) for seed in SEEDS)]


@pytest.fixture(autouse=True, scope="module")
def little_patience() -> None:
    """Routes are numbered anew, and rankings let go of, in a world as small as this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routes, "_SPARE", 64)
        patch.setattr(groups, "_SPARE", 16)
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
    ]
    assert not [what for what in wanted if not seen[what]], seen


def _same(one: dict[str, bytes], other: dict[str, bytes], position: int) -> None:
    differing = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    assert not differing, f"after cut {position}"
    assert list(one) == list(other)
