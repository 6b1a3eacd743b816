"""A log folded again: equal when nothing changed, and else whether inputs lack or the result
differs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.main import app
from pipeline.cut import Cause
from pipeline.errors import LogError
from pipeline.replay import archive
from pipeline.replay.archive import Recording
from pipeline.replay.compare import Judged, Outcome, Tally, replay
from schemas.registry import FLEET_INVENTORY, PLAY_EVENTS
from tests.cell_world import Log, make_log
from tests.recorded import Epochs, epochs_of, write

CUTS = 24


@pytest.fixture
def log() -> Log:
    return make_log(3, CUTS)


@pytest.fixture
def epochs(log: Log) -> Epochs:
    return epochs_of(log)


def judge(path: Path, *, lead_in: bool = False) -> tuple[list[Judged], Tally]:
    tally, judged = Tally(compare_lead_in=lead_in), []
    with Recording(path) as recording:
        for one in replay(recording, tally):
            tally.add(one)
            judged.append(one)
    return judged, tally


def outcomes(path: Path) -> dict[int, Outcome]:
    return {one.number: one.outcome for one in judge(path)[0]}


@pytest.mark.parametrize("part_bytes", [300, 1 << 22])
def test_l1_a_recording_folds_to_the_same_epochs_whatever_its_parts(
    tmp_path: Path, log: Log, epochs: Epochs, part_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "PART_BYTES", part_bytes)
    path = write(tmp_path / "log", log, epochs)
    for _ in range(2):
        judged, tally = judge(path)
        assert [one.why for one in judged] == [()] * CUTS
        assert tally.outcomes == {Outcome.EQUAL: CUTS}
        assert tally.all_equal


def test_a_changed_record_is_an_incomplete_input_from_its_cut_on(
    tmp_path: Path, log: Log, epochs: Epochs
) -> None:
    """Later cuts of the cell may be equal again; none is called different."""
    place = log.cuts[10].offsets[PLAY_EVENTS.name]
    log.values[PLAY_EVENTS.name][place] = log.values[PLAY_EVENTS.name][0]
    judged, tally = judge(write(tmp_path / "log", log, epochs))
    found = {one.number: one for one in judged}
    assert {found[number].outcome for number in range(1, 12)} == {Outcome.EQUAL}
    assert found[12].outcome is Outcome.INPUTS_INCOMPLETE
    assert "play.events: " in found[12].why[0]
    assert tally.outcomes[Outcome.DIFFERENT] == 0
    assert not tally.all_equal


def test_records_that_compaction_took_are_an_incomplete_input(
    tmp_path: Path, log: Log, epochs: Epochs
) -> None:
    first = log.cuts[0].offsets[FLEET_INVENTORY.name]
    for values in (log.values, log.keys):
        del values[FLEET_INVENTORY.name][0]
    log.cuts = [
        replace(
            cut,
            offsets={
                topic: end - (topic == FLEET_INVENTORY.name) for topic, end in cut.offsets.items()
            },
        )
        for cut in log.cuts
    ]
    judged, tally = judge(write(tmp_path / "log", log, epochs))
    assert judged[0].outcome is Outcome.INPUTS_INCOMPLETE
    assert f"{first} rows" in judged[0].why[0]
    assert f"{first - 1} rows" in judged[0].why[0]
    assert tally.outcomes[Outcome.DIFFERENT] == 0


def test_a_changed_hash_is_a_different_result(tmp_path: Path, log: Log, epochs: Epochs) -> None:
    epochs[7]["table_hash"] = "0123456789abcdef"
    judged, tally = judge(write(tmp_path / "log", log, epochs))
    assert judged[7].outcome is Outcome.DIFFERENT
    assert judged[7].why[0].startswith("table_hash: 0123456789abcdef then, ")
    assert tally.outcomes == {Outcome.EQUAL: CUTS - 1, Outcome.DIFFERENT: 1}


def test_an_epoch_that_was_sent_again_must_say_the_same(
    tmp_path: Path, log: Log, epochs: Epochs
) -> None:
    again = [*epochs, {**epochs[3], "behind_ms": 900}]
    assert set(outcomes(write(tmp_path / "log", log, again)).values()) == {Outcome.EQUAL}
    again[-1]["prefixes"] += 1
    assert outcomes(write(tmp_path / "log", log, again))[4] is Outcome.DIFFERENT


def test_cuts_that_do_not_count_are_ignored(tmp_path: Path, log: Log, epochs: Epochs) -> None:
    zombie = replace(log.cuts[5], writer="zombie", cause=Cause.TAKEOVER)
    log.cuts[6:6] = [zombie, replace(zombie, number=90, term=9)]
    judged, tally = judge(write(tmp_path / "log", log, epochs))
    assert [one.number for one in judged] == list(range(1, CUTS + 1))
    assert (tally.ignored.count, tally.all_equal) == (2, True)


def test_cuts_of_another_code_version_are_folded_but_not_compared(
    tmp_path: Path, log: Log, epochs: Epochs
) -> None:
    for number in (2, 3):
        log.cuts[number] = replace(log.cuts[number], code_version=0)
        epochs[number]["table_hash"] = "0" * 16
    _, tally = judge(write(tmp_path / "log", log, epochs))
    assert tally.outcomes == {Outcome.EQUAL: CUTS - 2, Outcome.OTHER_CODE: 2}
    assert tally.all_equal


def test_what_differs_after_cuts_of_other_code_is_laid_to_the_upgrade(
    tmp_path: Path, log: Log, epochs: Epochs
) -> None:
    """The worker of the new version had the state of the old one from a snapshot."""
    for number in (2, 3):
        log.cuts[number] = replace(log.cuts[number], code_version=0)
    for number in (0, 6):
        epochs[number]["table_hash"] = "0" * 16
    judged, _ = judge(write(tmp_path / "log", log, epochs))
    assert judged[0].outcome is Outcome.DIFFERENT
    assert judged[6].outcome is Outcome.OTHER_CODE
    assert judged[6].why[0].startswith("table_hash: ")


def test_a_cut_without_an_epoch_is_folded_and_said(
    tmp_path: Path, log: Log, epochs: Epochs
) -> None:
    _, tally = judge(write(tmp_path / "log", log, epochs[:-1]))
    assert tally.outcomes == {Outcome.EQUAL: CUTS - 1, Outcome.WITHOUT_EPOCH: 1}


def test_the_lead_in_is_compared_only_when_asked(tmp_path: Path, log: Log, epochs: Epochs) -> None:
    epochs[2]["table_hash"] = "0" * 16
    path = write(tmp_path / "log", log, epochs, from_cut=11)
    _, tally = judge(path)
    assert (tally.lead_in, tally.compared, tally.all_equal) == (10, CUTS - 10, True)
    _, tally = judge(path, lead_in=True)
    assert tally.outcomes == {Outcome.EQUAL: CUTS - 1, Outcome.DIFFERENT: 1}


def test_a_log_without_its_beginning_lacks_inputs_and_differs_in_nothing(
    tmp_path: Path, log: Log, epochs: Epochs
) -> None:
    log.cuts = log.cuts[9:]
    judged, tally = judge(write(tmp_path / "log", log, epochs, from_cut=10, log_begin=9))
    assert judged[0].number == 10
    assert judged[0].outcome is Outcome.INPUTS_INCOMPLETE
    assert tally.outcomes[Outcome.DIFFERENT] == 0


def test_a_configuration_that_is_not_there_is_named(
    tmp_path: Path, log: Log, epochs: Epochs
) -> None:
    log.cuts[4] = replace(log.cuts[4], config_hash="feed" * 4)
    with pytest.raises(LogError, match=r"cut 5 of cell 0 names configuration feedfeedfeedfeed"):
        judge(write(tmp_path / "log", log, epochs))


# -- the command ----------------------------------------------------------------------------------


def run(*args: str) -> Result:
    return CliRunner().invoke(app, ["replay", *args])


def test_the_command_ends_with_one_object_and_status_0_when_all_is_equal(
    tmp_path: Path, log: Log, epochs: Epochs
) -> None:
    result = run(str(write(tmp_path / "log", log, epochs, from_cut=5)), "--json")
    assert result.exit_code == 0
    (last,) = map(json.loads, result.stdout.splitlines())
    counts = {name: last[name] for name in ("cuts", "equal", "different", "inputs_incomplete")}
    assert counts == {"cuts": CUTS - 4, "equal": CUTS - 4, "different": 0, "inputs_incomplete": 0}
    assert (last["lead_in"], last["recorded_seconds"] > 0) == (4, True)


def test_the_command_names_each_cut_that_differs_and_ends_with_status_1(
    tmp_path: Path, log: Log, epochs: Epochs
) -> None:
    epochs[7]["table_hash"] = "0123456789abcdef"
    path = str(write(tmp_path / "log", log, epochs))
    result = run(path, "--json")
    first, last = map(json.loads, result.stdout.splitlines())
    assert (result.exit_code, last["different"], last["equal"]) == (1, 1, CUTS - 1)
    assert (first["partition"], first["cut"], first["outcome"]) == (0, 8, "different")
    result = run(path)
    assert result.exit_code == 1
    assert "cut 0/8  different" in result.stdout
    assert "1 different: the same inputs gave another result" in result.stdout


def test_nothing_to_compare_is_no_success(tmp_path: Path, log: Log) -> None:
    result = run(str(write(tmp_path / "log", log, [])), "--json")
    assert (result.exit_code, json.loads(result.stdout)["without_epoch"]) == (1, CUTS)
    assert "nothing could be compared" in result.stderr
