"""`edgesteer explain` on a recording: what it prints for people and for scripts, its status."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.common import iso
from pipeline.cli.explaintext import _forecast
from pipeline.cli.main import app
from pipeline.errors import Unexplained, UsageError
from pipeline.replay.sitefacts import BlockDemand
from tests.explained import write
from tests.unit.test_replay_explain import CLIENT, FAR, NEAR, SITES, Noted, fail, world


@pytest.fixture
def made() -> Noted:
    made = world()
    fail(made)
    return made


def run(folder: Path, made: Noted, *args: str, **given: int) -> Result:
    path = write(folder / "log", {0: made.log}, **given)  # type: ignore[arg-type]
    at = () if "--at" in args else ("--at", iso(made.log.now_ms))
    return CliRunner().invoke(app, ["explain", CLIENT, str(path), *at, *args])


def loaded(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_json_has_the_names_of_who_and_the_records(tmp_path: Path, made: Noted) -> None:
    found = loaded(run(tmp_path, made, "--json"))
    assert (found["prefix"], found["class"], found["cut"]) == ("20.1.0.0/16", "vod", 4)
    assert [(one["site"], one["share"]) for one in found["sites"]] == [(FAR, 10_000)]
    assert [one["reason"] for one in found["passed_over"]] == ["no_capacity", "beyond_rank"]
    assert sum(one["weight"] for one in found["sites"][0]["appliances"]) == 10_000
    assert found["passed_over"][0]["key"]["med"] == 5
    assert found["agrees"] is True
    assert found["records"]["cut"] == {
        "topic": "steering.cuts",
        "partition": 0,
        "offset": 3,
        "at": "2025-06-15T15:06:40.003Z",
    }
    route = found["passed_over"][0]["route"]
    assert (route["peer"], route["record"]["offset"]) == ("192.0.2.1", made.at["route near"])
    assert found["demand"]["record"]["count"] == 3


def test_json_tells_moves_with_their_evidence_and_verdicts(tmp_path: Path, made: Noted) -> None:
    found = loaded(run(tmp_path, made, "--json", "--since", "2025-01-01"))
    first, move = found["moves"]
    assert (first["before"], first["after"]["sites"]) == (None, [{"site": NEAR, "share": 10_000}])
    assert (move["partition"], move["cut"], move["cause"]) == (0, 3, "URGENT")
    assert move["moved"][0] == {
        "site": NEAR,
        "before": 10_000,
        "after": 0,
        "reason": "no_capacity",
    }
    evidence = move["evidence"][0]
    assert (evidence["kind"], evidence["entity"]) == ("appliance", "eu-s0-a0")
    assert evidence["record"]["offset"] == made.at["failed eu-s0-a0"]
    verdict = found["verdicts"][-1]
    assert verdict.keys() >= {"at", "partition", "cut", "kind", "entity", "from_state", "reason"}


def test_a_person_is_told_in_one_sentence_first_and_then_who_moved_it(
    tmp_path: Path, made: Noted
) -> None:
    shown = run(tmp_path, made).stdout.splitlines()
    assert shown[0] == (
        "At 2025-06-15T15:06:48.200Z (cut 0/4 of 15:06:48.200) 20.1.2.3 was served VOD by "
        "eu-s1 100 %, because what ranks before eu-s1 was passed over: eu-s0 (no_capacity)."
    )
    assert shown[1] == (
        "Moved at 2025-06-15T15:06:47.200Z (cut 0/3, URGENT) from eu-s0 100 % to eu-s1 100 %: "
        "3 appliances (eu-s0-a0 ...) UP -> DOWN, reported_failed; "
        "eu-s0 VOD+LIVE+GAME -> NONE, no_capacity: 0 bps usable."
    )
    text = "\n".join(shown)
    for said in (
        f"appliance.health/0@{made.at['failed eu-s0-a0']}",
        f"bgp.routes/0@{made.at['route far']}",
        "192.0.2.1 AS64500: 64500 64500",
        "steering.epochs/0@3",
        f"play.events/0@{made.at['play']} (of 3 from @{made.at['play'] - 2})",
        "plays by site: eu-s0 3",
    ):
        assert said in text, said


def test_the_first_answer_is_no_move_but_told_as_what_it_is(tmp_path: Path, made: Noted) -> None:
    shown = run(tmp_path, made, "--since", "2025-01-01").stdout.splitlines()
    (first,) = [line for line in shown if line.startswith("First answered at ")]
    assert first.startswith(
        "First answered at 2025-06-15T15:06:47.000Z (cut 0/2, TICK) by eu-s0 100 %: 3 appliances"
    )
    assert sum(line.startswith("Moved at ") for line in shown) == 1


def test_what_was_so_before_the_recording_is_said_to_be_of_the_snapshot(
    tmp_path: Path, made: Noted
) -> None:
    shown = run(tmp_path, made, snapshot_cut=3).stdout.splitlines()
    assert shown[1] == (
        "It was so since 2025-06-15T15:06:47.200Z at least, where what is known begins."
    )
    (region,) = [line.split() for line in shown if line.startswith("region ")]
    assert region == ["region", "snapshot", "at", "cut", "3", "eu"]
    found = loaded(run(tmp_path, made, "--json", snapshot_cut=3))
    assert found["records"]["group"] == found["records"]["region"] == {"snapshot_cut": 3}
    assert (found["moves"], found["known_since"]) == ([], "2025-06-15T15:06:47.200Z")


def test_a_table_that_is_held_back_is_said(tmp_path: Path) -> None:
    made = world()
    for site in SITES:
        made.log.session(site, "PeerDown")
    made.log.cut()
    assert "The table of eu is held back (empty_table)" in run(tmp_path, made).stdout
    assert loaded(run(tmp_path, made, "--json"))["held"] == "empty_table"


def test_what_no_epoch_closes_is_said(tmp_path: Path, made: Noted) -> None:
    result = run(tmp_path, made, epochs=False)
    assert "no Epoch closes cut 0/4" in result.stderr
    assert loaded(run(tmp_path, made, "--json", epochs=False))["agrees"] is None


def test_no_answer_is_status_1_and_a_wrong_question_status_2(tmp_path: Path, made: Noted) -> None:
    late = run(tmp_path, made, "--at", "2025-06-15T16:00:00Z")
    assert isinstance(late.exception, Unexplained)
    nowhere = run(tmp_path, made, "--region", "us")
    assert isinstance(nowhere.exception, Unexplained)
    reverse = run(tmp_path, made, "--since", "now")
    assert isinstance(reverse.exception, UsageError)
    wrong = CliRunner().invoke(app, ["explain", "20.1.2", str(tmp_path / "log")])
    assert isinstance(wrong.exception, UsageError)
    for result in (late, nowhere, reverse, wrong):
        assert result.stdout == ""


def test_the_demand_of_the_clients_block_is_forecast(tmp_path: Path, made: Noted) -> None:
    found = loaded(run(tmp_path, made, "--json"))["demand"]
    assert found["forecast_bps"] == found["block_bps"]  # not a minute is known yet
    assert found["forecast_error_bps"] == dict.fromkeys(("vod", "live", "game"))
    (line,) = [
        one for one in run(tmp_path, made).stdout.splitlines() if one.startswith("forecast of it")
    ]
    assert line.endswith(" in 60 s")


def test_how_far_forecasts_are_off_is_told_where_it_is_known() -> None:
    block = BlockDemand((10**6, 0, 0), (2 * 10**6, 0, 10**6), (10**5, -1, -1))
    assert _forecast(block) == "VOD 2 Mbps (off by 100 kbps as a rule), GAME 1 Mbps"
