"""A view is what the cells had decided at a moment, stays so, and comes back from its file."""

import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config import SteeringConfig
from pipeline.errors import RecordingError, UsageError
from pipeline.replay.archive import Recording
from pipeline.replay.changes import Settings
from pipeline.replay.diff import diff
from pipeline.replay.fold import Ignored, fold
from pipeline.replay.view import SCHEMAS, View, overflow_bps, take_view
from pipeline.replay.viewfile import is_view, load_view, save_view
from pipeline.replay.watch import watched
from tests import diffworld
from tests.cell_world import GBPS, make_log
from tests.diffworld import CUTS, FAR, NEAR, moment
from tests.recorded import write


def view_at(path: Path, *cuts: int, failed: range = range(0)) -> list[View]:
    with diffworld.opened(path, diffworld.log(failed=failed)) as recording:
        watch = watched(recording, [moment(cut) for cut in cuts])
        return [watch.view(moment(cut), f"cut {cut}") for cut in cuts]


def test_the_frames_say_what_was_decided(tmp_path: Path) -> None:
    (view,) = view_at(tmp_path / "log", CUTS)
    assert {name: dict(frame.schema) for name, frame in view.frames().items()} == SCHEMAS
    near = view.sites.row(by_predicate=pl.col("site") == NEAR, named=True)
    assert (near["load_bps"], near["capacity_bps"]) == (9_240_000_000, 10 * GBPS)
    assert (near["target_bps"], near["overflow_bps"]) == (9_500_000_000, 0)
    assert (near["serves"], near["state"]) == ("VOD+LIVE+GAME", "ROOM")
    assert (
        view.sites.row(by_predicate=pl.col("site") == FAR, named=True)["capacity_bps"] == 15 * GBPS
    )
    assert view.prefixes.get_column("vod_bps").to_list() == [6 * GBPS, 3 * GBPS, 240_000_000]
    assert view.shares.get_column("assigned_bps").sum() == 9_240_000_000
    assert view.appliances.get_column("weight").to_list() == [10_000, 10_000]
    assert view.regions.row(0) == ("eu", 0, 3, 3, None)
    assert [(cell.partition, cell.cut, cell.at_ms) for cell in view.cells] == [
        (0, CUTS, moment(CUTS))
    ]


def test_what_nobody_serves_is_assigned_to_nowhere(tmp_path: Path) -> None:
    (view,) = view_at(tmp_path / "log", 20, failed=range(15, CUTS + 1))
    nowhere = view.shares.filter(pl.col("site").is_null())
    assert nowhere.select("class", "share", "demand_bps", "assigned_bps").rows() == [
        ("VOD", 10_000, 3 * GBPS, 3 * GBPS)
    ]


def test_a_view_stays_as_it_was_while_the_cell_goes_on(tmp_path: Path) -> None:
    path = write(tmp_path / "log", make_log(5, 40), [])
    with Recording(path) as recording:
        (span,) = recording.manifest.cells
        taken: list[tuple[View, dict[str, Any]]] = []
        for step in fold(recording, span, Ignored()):
            view = take_view(step.cell, step.cut, step.config)
            taken.append((view, {name: frame.rows() for name, frame in view.frames().items()}))
    for view, rows in taken:
        assert {name: frame.rows() for name, frame in view.frames().items()} == rows


def test_each_moment_gets_the_last_cut_at_or_before_it(tmp_path: Path) -> None:
    with diffworld.opened(tmp_path / "log") as recording:
        asked = [moment(7), moment(7) + 999, moment(8), moment(CUTS) + 5000]
        watch = watched(recording, asked)
        assert [watch.view(at, "").cells[0].cut for at in asked] == [7, 7, 8, CUTS]
        with pytest.raises(UsageError, match="no cut of the recording"):
            watched(recording, [moment(0)]).view(moment(0), "too early")


def test_a_view_comes_back_from_its_file(tmp_path: Path) -> None:
    (view,) = view_at(tmp_path / "log", CUTS)
    save_view(view, tmp_path / "view")
    back = load_view(tmp_path / "view")
    assert is_view(tmp_path / "view")
    assert not is_view(tmp_path / "log")
    assert (back.cells, back.source, back.code_version) == (
        view.cells,
        view.source,
        view.code_version,
    )
    assert all(frame.equals(back.frames()[name]) for name, frame in view.frames().items())
    assert diff(view, back).equal
    assert not list(tmp_path.glob("*.part"))


def test_a_damaged_view_is_refused_with_what_is_wrong_and_where(tmp_path: Path) -> None:
    (view,) = view_at(tmp_path / "log", CUTS)
    path = tmp_path / "view"
    save_view(view, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordingError, match="no whole edgesteer view"):
        load_view(path)
    at = whole.index(b"ARROW1") + 300
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(RecordingError, match=r"prefixes.arrow: damaged"):
        load_view(path)


def test_a_frame_of_another_view_is_refused(tmp_path: Path) -> None:
    one, other = view_at(tmp_path / "log", 3, CUTS)
    for view, name in ((one, "one"), (other, "other")):
        save_view(view, tmp_path / name)
    mixed = tmp_path / "mixed"
    with (
        zipfile.ZipFile(mixed, "w") as to,
        zipfile.ZipFile(tmp_path / "one") as first,
        zipfile.ZipFile(tmp_path / "other") as second,
    ):
        for name in first.namelist():
            to.writestr(name, (second if name == "sites.arrow" else first).read(name))
    with pytest.raises(RecordingError, match=r"sites.arrow: not the frame"):
        load_view(mixed)


def test_a_recording_is_no_view(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="'edgesteer recording' is not 'edgesteer view'"):
        load_view(diffworld.recording(tmp_path / "log"))


def test_a_view_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (view,) = view_at(tmp_path / "log", CUTS)
    with pytest.raises(RecordingError, match="cannot be written"):
        save_view(view, tmp_path / "nowhere" / "view")


def test_replay_saves_the_view_of_a_moment(tmp_path: Path) -> None:
    log = str(diffworld.recording(tmp_path / "log"))
    runner, saved = CliRunner(), tmp_path / "view"
    result = runner.invoke(app, ["replay", log, "--save", str(saved), "--at", "-4s"])
    assert load_view(saved).cells[0].cut == CUTS - 4, result.output
    (view,) = view_at(tmp_path / "log", CUTS - 4)
    assert diff(view, load_view(saved)).equal
    result = runner.invoke(app, ["replay", log, "--at", "-4s"])
    assert "--at" in str(result.exception)


@pytest.mark.parametrize(
    ("over_bps", "min_shift", "counted_bps"),
    [
        (90_000_000, 100, 0),  # less than a hundredth of 9.24 Gbit/s: pacing may leave it
        (93_000_000, 100, 93_000_000),
        (93_000_000, 10_000, 93_000_000),  # however much else is not worth moving
        (1_000, 0, 1_000),
    ],
)
def test_overflow_is_what_pacing_does_not_explain(
    tmp_path: Path, over_bps: int, min_shift: int, counted_bps: int
) -> None:
    config = Settings([f"assignment.min_shift={min_shift}"]).of(SteeringConfig())
    with diffworld.opened(tmp_path / "log") as recording:
        (span,) = recording.manifest.cells
        *_, last = fold(recording, span, Ignored())
    sites = last.cell.fleet.sites
    (region,) = last.cell.regions.values()
    region.shares.sites.overflow[sites.get(NEAR)] = over_bps * 10
    found = overflow_bps(region, len(sites), config)
    assert found[sites.get(NEAR)] == counted_bps
    assert found[sites.get(FAR)] == 0
