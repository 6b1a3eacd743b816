import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.common import iso, parse_duration_ms, parse_time_ms, si, table
from pipeline.cli.main import COMMANDS, app, load
from pipeline.errors import UsageError

EDGESTEER = str(Path(sys.executable).with_name("edgesteer"))


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("500ms", 500),
        ("60s", 60_000),
        ("1.5h", 5_400_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
    ],
)
def test_durations_are_read(text: str, expected_ms: int) -> None:
    assert parse_duration_ms(text) == expected_ms


@pytest.mark.parametrize("text", ["", "60", "s", "1x", "-5s", "1h 30m", "1h30"])
def test_what_is_no_duration_says_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match="60s"):
        parse_duration_ms(text)


def test_times_are_iso_8601_now_or_before_now() -> None:
    now_ms = 1_700_000_000_000
    assert parse_time_ms("now", now_ms) == now_ms
    assert parse_time_ms("-40s", now_ms) == now_ms - 40_000
    assert parse_time_ms("-2h", now_ms) == now_ms - 7_200_000
    assert parse_time_ms("2023-11-14T22:13:20Z") == now_ms
    assert parse_time_ms("2023-11-14T23:13:20+01:00") == now_ms
    assert parse_time_ms("2023-11-14T22:13:20") == now_ms
    with pytest.raises(UsageError, match="is not a time"):
        parse_time_ms("yesterday")


def test_a_time_that_was_shown_reads_back() -> None:
    assert iso(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert parse_time_ms(iso(1_700_000_000_123)) == 1_700_000_000_123
    assert iso(10**18) == str(10**18)


def test_amounts_get_three_figures_and_a_prefix() -> None:
    assert si(0, "bps") == "0 bps"
    assert si(12_345, "bps") == "12.3 kbps"
    assert si(10**10, "bps") == "10 Gbps"
    assert si(999_400_000, "bps") == "999 Mbps"
    assert si(999_600_000, "bps") == "1 Gbps"


def test_tables_line_up_and_a_pipe_gets_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    table(["site", "share"], [["amsterdam", 5], ["fra", 100]], right=" r")
    assert capsys.readouterr().out == "site       share\namsterdam      5\nfra          100\n"


def test_every_command_listed_is_in_a_panel_with_one_line_of_help() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for name, listed in COMMANDS.items():
        assert f" {name} " in shown.output
        assert listed.help in shown.output
        assert listed.panel in shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_listed_is_there_and_explains_itself(name: str) -> None:
    command = load(name)
    assert command.name == name
    assert command.help


def test_help_imports_no_room_behind_the_commands() -> None:
    heavy = "{'polars', 'numpy', 'aiokafka', 'faust', 'asyncio', 'pydantic'}"
    code = (
        "import sys, pipeline.cli.main as m\n"
        "try: m.app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print(sorted({heavy} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def run(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([EDGESTEER, *args], capture_output=True, text=True, check=False)


def test_status_2_and_a_suggestion_for_an_unknown_command() -> None:
    done = run("wo")
    assert done.returncode == 2
    assert "Did you mean 'who'?" in done.stderr
    assert done.stdout == ""


def test_status_1_and_one_sentence_when_no_broker_answers() -> None:
    done = run("epochs", "--broker", "127.0.0.1:9", "--json")
    assert done.returncode == 1
    assert done.stderr.startswith("edgesteer: ")
    assert "127.0.0.1:9" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_status_2_for_a_request_that_is_wrong() -> None:
    assert run("tail", "play.event", "--broker", "127.0.0.1:9").stderr == (
        "edgesteer: no topic 'play.event'; did you mean play.events?\n"
    )
    assert run("who", "1.2.3", "--broker", "127.0.0.1:9").returncode == 2
    assert run("who", "1.2.3.4", "--broker", "nowhere").returncode == 2
    assert run("dead-letters", "--reason", "x", "--broker", "127.0.0.1:9").returncode == 2


def test_a_reader_that_has_enough_ends_a_command_quietly() -> None:
    code = "from pipeline.cli.common import emit\nfor i in range(100000): emit({'i': i})"
    wrapped = (
        "import typer\napp = typer.Typer()\n@app.command()\ndef go():\n    "
        + code.replace("\n", "\n    ")
        + "\napp()"
    )
    done = subprocess.run(
        f'{sys.executable} -c "$CODE" | head -n 1; echo ${{PIPESTATUS[0]}}',
        shell=True,
        executable="/bin/bash",
        env={"CODE": wrapped},
        capture_output=True,
        text=True,
        check=True,
    )
    first, status = done.stdout.splitlines()
    assert json.loads(first) == {"i": 0}
    assert (status, done.stderr) == ("0", "")


def test_version_is_printed() -> None:
    assert run("--version").stdout.startswith("edgesteer ")
