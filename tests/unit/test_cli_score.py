"""`edgesteer sim score` as it is typed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.errors import ConfigError, UsageError
from pipeline.sim.loop.meter import COLUMNS
from pipeline.sim.loop.scenario import names

SCENARIO = """
title = "Short"
says = "A site is lost for twenty seconds."
length_s = 60
warm_up_s = 30
load = 1.0

[[fault]]
kind = "site_loss"
from_s = 10
to_s = 30
sites = 1
"""
TWO = ["--policy", "nearest", "--policy", "two_choices", "--quick"]


def score(*arguments: str) -> str:
    """What it prints on stdout; raises what the command raises."""
    found = CliRunner().invoke(app, ["sim", "score", *arguments], catch_exceptions=False)
    assert found.exit_code == 0
    return found.stdout


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "short.toml"
    path.write_text(SCENARIO)
    return str(path)


def test_the_last_object_holds_every_column_of_every_policy(scenario: str) -> None:
    told = json.loads(score(scenario, *TWO, "--json").splitlines()[-1])
    assert set(told) >= {"scenarios", "worst_in", "beyond_one_percent"}
    assert set(told["scenarios"]["short"]) == {"nearest", "two_choices"}
    for columns in told["scenarios"]["short"].values():
        assert set(columns) == {column.name for column in COLUMNS}


def test_the_same_seed_prints_the_same_table(scenario: str) -> None:
    first, again, other = (score(scenario, *TWO, "--seed", seed) for seed in ("3", "3", "4"))
    assert first == again != other
    lines = first.splitlines()
    assert any(line.startswith("  nearest") for line in lines)
    assert "*" in first


def test_page_and_docs_hold_the_table_and_the_plots(scenario: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    score(scenario, *TWO, "--html", str(page), "--docs", str(tmp_path))
    text = page.read_text()
    assert "<svg" in text
    assert "<script" not in text
    assert "two_choices" in text
    told = (tmp_path / "score.md").read_text()
    assert "![The score over time](score.svg)" in told
    assert "edgesteer sim score --seed 1 --quick --policy nearest" in told
    assert (tmp_path / "score.svg").read_text().startswith("<svg")
    assert not list(tmp_path.glob("*.part"))


def test_what_was_written_by_hand_stays_on_the_page(scenario: str, tmp_path: Path) -> None:
    page = tmp_path / "score.md"
    page.write_text("# Old\n\n## Why\n\nBecause.\n")
    score(scenario, *TWO, "--docs", str(tmp_path))
    once = page.read_text()
    assert once.endswith("\n\n## Why\n\nBecause.\n")
    assert "# Old" not in once
    score(scenario, *TWO, "--docs", str(tmp_path))
    assert page.read_text() == once


def test_the_list_names_every_scenario() -> None:
    told = [json.loads(line) for line in score("--list", "--json").splitlines()]
    assert [one["scenario"] for one in told] == names()
    assert all(name in score("--list") for name in names())


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are edgesteer, nearest"):
        score("--policy", "nearset", "--quick", "site_loss")
    with pytest.raises(UsageError, match="there are steady_day"):
        score("--quick", "siteloss")
    with pytest.raises(UsageError, match="cannot be read"):
        score("--quick", str(tmp_path / "none.toml"))
    bad = tmp_path / "bad.toml"
    bad.write_text(SCENARIO.replace("sites = 1", "sites = -1"))
    with pytest.raises(ConfigError, match=r"bad\.toml:12: sites = -1"):
        score("--quick", str(bad))
    with pytest.raises(UsageError, match="cannot be written"):
        (tmp_path / "ok.toml").write_text(SCENARIO)
        score(str(tmp_path / "ok.toml"), *TWO, "--html", str(tmp_path / "none" / "x.html"))
