"""`edgesteer diff` and `edgesteer whatif`, as a person and as a script would call them."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.diffpage import page
from pipeline.cli.main import app
from pipeline.errors import RecordingError, UsageError
from pipeline.replay import watch
from pipeline.replay.changes import Failed
from pipeline.replay.diff import diff
from pipeline.replay.fold import fold
from pipeline.replay.view import View
from pipeline.replay.viewfile import save_view
from pipeline.replay.whatif import what_if
from tests import diffworld
from tests.diffworld import CUTS, FROM_CUT, NEAR, moment

EVIL = '<i>&"near'
FAILED = range(15, CUTS + 1)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Near fails at the fifteenth cut."""
    return str(diffworld.recording(tmp_path / "log", diffworld.log(failed=FAILED)))


@pytest.fixture
def well(tmp_path: Path) -> str:
    return str(diffworld.recording(tmp_path / "well"))


def run(*args: str) -> Result:
    result = CliRunner().invoke(app, list(args))
    if isinstance(result.exception, UsageError | RecordingError):
        raise result.exception
    return result


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# -- diff -----------------------------------------------------------------------------------------


def test_two_moments_of_a_file_as_tables(file: str) -> None:
    result = run("diff", f"{file}@-10s", file)
    assert result.exit_code == 0
    assert "9.24 Gbps of 9.24 Gbps moved" in result.stdout
    assert re.search(r"near +far +6\.24 Gbps", result.stdout)
    assert re.search(r"near +\(nowhere\) +3 Gbps", result.stdout)
    assert re.search(r"near-a0 +UP -> DOWN +first_report -> reported_failed", result.stdout)


def test_json_is_one_object_a_line_and_ends_in_a_summary(file: str) -> None:
    *rows, last = objects(run("diff", f"{file}@-10s", file, "--json"))
    kinds = [row["kind"] for row in rows]
    assert sorted(set(kinds)) == ["appliance", "move", "prefix", "site", "unserved"]
    moves = {(row["from"], row["to"]): row["moved_bps"] for row in rows if row["kind"] == "move"}
    assert moves == {("near", "far"): 6_240_000_000, ("near", None): 3_000_000_000}
    assert (last["kind"], last["moved_bps"]) == ("summary", 9_240_000_000)
    assert last["unserved_bps"] == [0, 3_000_000_000]
    assert last["a"]["cells"]["0"]["cut"] == CUTS - 10
    assert last["b"]["at"].startswith("2025-06-15")


def test_the_same_moment_twice_is_no_difference(file: str) -> None:
    *rows, last = objects(run("diff", file, file, "--json"))
    assert last["equal"]
    assert [(row["kind"], row["bps"]) for row in rows] == [("unserved", [3_000_000_000] * 2)]


def test_a_file_at_two_moments_is_folded_once(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folds: list[int] = []
    monkeypatch.setattr(watch, "fold", lambda *args: folds.append(1) or fold(*args))
    run("diff", f"{file}@-10s", f"{file}@-2s")
    assert len(folds) == 1
    run("diff", file, file, "--set-b", "assignment.target=0.5")
    assert len(folds) == 3


def test_another_setting_for_b(well: str) -> None:
    *_, last = objects(run("diff", well, well, "--set-b", "assignment.target=0.5", "--json"))
    assert last["moved_bps"] > 4_000_000_000
    with pytest.raises(UsageError, match=r"no such setting.*assignment\.target"):
        run("diff", well, well, "--set-b", "assignment.targets=0.5")


def test_a_saved_view_is_an_operand_of_one_moment(file: str, tmp_path: Path) -> None:
    saved = str(tmp_path / "saved")
    run("replay", file, "--save", saved, "--at", "-10s")
    *_, last = objects(run("diff", saved, file, "--json"))
    assert (last["moved_bps"], last["a"]["source"]) == (9_240_000_000, saved)
    (last,) = objects(run("diff", f"{file}@-10s", saved, "--json"))
    assert last["equal"]
    with pytest.raises(UsageError, match="a saved view is of one moment"):
        run("diff", f"{saved}@-1s", file)
    with pytest.raises(UsageError, match="cannot be folded under other settings"):
        run("diff", file, saved, "--set-b", "assignment.target=0.5")


def test_what_is_not_there_is_refused(file: str, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read"):
        run("diff", str(tmp_path / "none"), file)
    with pytest.raises(UsageError, match="lies behind the end"):
        run("diff", f"{file}@2100-01-01", file)
    with pytest.raises(UsageError, match="no cut of the recording"):
        run("diff", f"{file}@2001-01-01", file)
    with pytest.raises(UsageError, match="leave the broker's options out"):
        run("diff", file, file, "--broker", "127.0.0.1:1")
    with pytest.raises(UsageError, match="cannot be written"):
        run("diff", file, file, "--html", str(tmp_path / "none" / "page.html"))


# -- whatif ---------------------------------------------------------------------------------------


def test_may_i_take_this_site_out_is_a_status(well: str) -> None:
    result = run("whatif", well, "--without", "far")
    assert result.exit_code == 0
    assert "overloads nothing" in result.stdout
    result = run("whatif", well, "--without", "near")
    assert result.exit_code == 1
    assert "The change makes an overload, or leaves unserved what was served." in result.stdout
    assert "eu VOD, served by nobody" in result.stdout
    for output in (result.stdout, run("whatif", well, "--demand", "x1.01").stdout):
        assert "open loop" in output


def test_changes_combine_and_the_summary_says_which(well: str) -> None:
    args = ("--without", "far-link", "--without", "near", "--demand", "x1.5", "--med")
    args += ("near:192.0.2.1=30", "--set", "assignment.target=0.9", "--from", "-8s", "--at", "-2s")
    result = run("whatif", well, *args, "--json")
    *rows, last = objects(result)
    assert result.exit_code == 1
    assert last["harms"]
    assert last["open_loop"]
    assert last["change"].startswith("without far-link, near and with demand x1.5 and with assign")
    assert last["unserved_bps"] == [0, 13_860_000_000]
    assert last["worst"][1] == {"overflow_bps": 0, "unserved_bps": 13_860_000_000}
    (strain,) = [row for row in rows if row["kind"] == "strain"]
    assert (strain["strain"], strain["for_ms"], strain["site"]) == ("MADE", 6000, None)


def test_no_change_is_no_harm(well: str) -> None:
    result = run("whatif", well, "--json")
    (last,) = objects(result)
    assert (result.exit_code, last["equal"], last["harms"]) == (0, True, False)
    assert last["a"]["cells"] == last["b"]["cells"]
    assert "nothing is changed" in result.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--without", "neat"), "did you mean near"),
        (("--demand", "1.3"), "write it as x1.3"),
        (("--demand", "x1.2345678"), "at most six figures"),
        (("--set", "a=b"), "no such setting"),
        (("--med", "near:192.0.2.9=1"), "did you mean near:192.0.2.1"),
        (("--med", "near:192.0.2.1=-4"), "VALUE from 0 to 4294967295"),
        (("--from", "-1s", "--at", "-2s"), "--from must lie before --at"),
        (("--at", "2100-01-01"), "lies behind the end"),
    ],
)
def test_what_cannot_be_is_refused(well: str, args: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        run("whatif", well, *args)


# -- the page -------------------------------------------------------------------------------------


def parsed(text: str) -> ElementTree.Element:
    assert text.startswith("<!DOCTYPE html>\n")
    return ElementTree.fromstring(text.partition("\n")[2])


def evil(tmp_path: Path) -> tuple[str, list[View]]:
    made = diffworld.log(failed=FAILED, name=EVIL)
    with diffworld.opened(tmp_path / "evil", made) as recording:
        seen = watch.watched(recording, [moment(14), moment(CUTS)])
        views = [seen.view(moment(at), EVIL) for at in (14, CUTS)]
        change = Failed([EVIL], [], moment(FROM_CUT))
        found = what_if(recording, [change], f"without {EVIL}", moment(FROM_CUT), moment(CUTS - 11))
    return page(found.diff, 20, found), views


def test_the_page_is_well_formed_and_needs_nothing_else(tmp_path: Path) -> None:
    text, views = evil(tmp_path)
    for each in (text, page(diff(*views), 20), page(diff(views[0], views[0]), 20)):
        root = parsed(each)
        tags = {element.tag for element in root.iter()}
        assert not tags & {"script", "link", "img", "iframe", "object", "use", "image", "a"}
        attributes = {name for element in root.iter() for name in element.attrib}
        assert not attributes & {"src", "href", "srcset", "onload", "onclick", "xlink:href"}
        assert "url(" not in each
        assert "@import" not in each
        assert "http" not in each
        assert "prefers-color-scheme: dark" in each


def test_the_page_shows_flows_bars_and_tables_with_names_escaped(tmp_path: Path) -> None:
    text, views = evil(tmp_path)
    assert EVIL not in text
    root = parsed(page(diff(*views), 20))
    words = "\n".join(root.itertext())
    assert f"{EVIL} to far: 6.24 Gbps" in words
    assert f"{EVIL} to (nowhere): 3 Gbps" in words
    assert len(list(root.iter("svg"))) == 2
    assert len(list(root.iter("table"))) == 5
    assert len(list(parsed(text).iter("svg"))) == 3  # and what was too much over time


def test_a_long_name_is_cut_where_it_is_drawn_and_whole_beside_it(tmp_path: Path) -> None:
    name = "a-site-with-" + "a" * 60
    with diffworld.opened(tmp_path / "long", diffworld.log(failed=FAILED, name=name)) as recording:
        seen = watch.watched(recording, [moment(14), moment(CUTS)])
        root = parsed(page(diff(*(seen.view(moment(at), "") for at in (14, CUTS))), 20))
    labels = [each for svg in root.iter("svg") for each in svg.iter("text")]
    cut = [each for each in labels if len(each) and (each[0].tail or "").startswith("a-site")]
    assert len(cut) == 2
    for each in cut:
        assert (each[0].tag, each[0].text) == ("title", name)
        assert len((each[0].tail or "").strip()) == 16


def test_the_command_writes_the_page_whole(file: str, tmp_path: Path) -> None:
    html = tmp_path / "page.html"
    run("diff", f"{file}@-10s", file, "--html", str(html))
    parsed(html.read_text())
    assert not list(tmp_path.glob("*.part"))
    run("whatif", file, "--without", NEAR, "--html", str(html))
    assert "What if" in "".join(parsed(html.read_text()).itertext())


def test_views_that_were_loaded_make_the_same_page(tmp_path: Path) -> None:
    _, views = evil(tmp_path)
    for number, view in enumerate(views):
        save_view(view, tmp_path / str(number))
    from pipeline.replay.viewfile import load_view

    loaded = [load_view(tmp_path / str(number)) for number in range(2)]
    assert page(diff(*loaded), 20) == page(diff(*views), 20)


def test_taking_a_site_out_of_service_as_a_what_if(well: str) -> None:
    result = run("whatif", well, "--drain", NEAR, "--json")
    assert result.exit_code == 0
    *rows, last = objects(result)
    moves = {(one["from"], one["to"]): one["moved_bps"] for one in rows if one["kind"] == "move"}
    assert moves == {("near", "far"): 6_240_000_000}
    assert last["change"] == "with near out of service"
    with pytest.raises(UsageError, match="no site or region 'nowhere'"):
        run("whatif", well, "--drain", "nowhere")
