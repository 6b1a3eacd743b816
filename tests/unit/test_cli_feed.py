"""`edgesteer feed mrt` and `fleet apply` without a broker: accounts, mistakes, exit status."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import feed, fleet
from pipeline.errors import ConfigError, UsageError
from tests import mrt_files as mrt

EXAMPLE = Path(__file__).parents[2] / "docs" / "fleet.example.toml"
GOOD = mrt.bgp4mp(
    mrt.update(mrt.nlri("9.9.9.0/24"), mrt.attributes(), mrt.nlri("8.8.8.0/24", "10.0.0.0/8"))
)


@pytest.fixture(autouse=True)
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.broker.running.checkout", lambda: tmp_path)  # no demo
    for name in ("EDGESTEER_BROKER", "EDGESTEER_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def run(app: Any, *args: str) -> Any:
    return CliRunner().invoke(app, args)


def dry_run(*args: str) -> tuple[int, dict[str, Any]]:
    result = run(feed.app, "mrt", *args, "--dry-run", "--json")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout.splitlines()[-1])


def test_a_dry_run_ends_with_one_object_that_adds_up(tmp_path: Path) -> None:
    path = tmp_path / "updates.gz"
    path.write_bytes(gzip.compress(GOOD + mrt.bgp4mp(b"") + GOOD))
    status, account = dry_run(str(path))
    assert status == 0
    assert (account["read"], account["announced"], account["withdrawn"]) == (6, 2, 2)
    assert (account["refused"], account["damaged"]) == ({"bogon": 2}, 1)
    status, account = dry_run(str(path), str(path), "--peer", "7=fra1")
    assert (status, account["refused"]) == (0, {"unmapped_peer": 12})


def test_the_status_says_whether_every_file_was_read_to_its_end(tmp_path: Path) -> None:
    whole, cut, text, empty = (tmp_path / name for name in ("whole", "cut.gz", "text", "empty"))
    whole.write_bytes(GOOD)
    cut.write_bytes(gzip.compress(GOOD * 100, mtime=0)[:-12])
    text.write_text("no routes at all, and long enough")
    empty.touch()
    assert dry_run(str(whole), str(empty))[0] == 0
    status, account = dry_run(str(cut), str(whole))
    assert (status, account["damaged"]) == (1, 1)
    assert account["announced"] >= 1  # the file behind the damaged one was read
    assert dry_run(str(text))[0] == 1
    assert dry_run(str(tmp_path / "nowhere"))[0] == 1


def test_the_account_is_a_table_for_people(tmp_path: Path) -> None:
    path = tmp_path / "updates"
    path.write_bytes(GOOD)
    result = run(feed.app, "mrt", str(path), "--dry-run", "--speed", "1000")
    assert result.exit_code == 0
    assert "refused: bogon" in result.stdout
    assert "2 records would be published" in result.stdout


def test_wrong_usage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "updates"
    path.write_bytes(GOOD)
    for args in ([], ["--peer", "fra1"], ["--peer", "*=a", "--speed", "0"]):
        assert isinstance(run(feed.app, "mrt", str(path), *args).exception, UsageError)
    assert isinstance(run(feed.app, "mrt", str(path), "--peer", "*=a").exception, UsageError)


def test_documentation_prefixes_are_accepted_where_the_configuration_says_so(
    tmp_path: Path,
) -> None:
    path = tmp_path / "updates"
    path.write_bytes(mrt.bgp4mp(mrt.update(b"", mrt.attributes(), mrt.nlri("192.0.2.0/24"))))
    assert dry_run(str(path))[1]["refused"] == {"bogon": 1}
    Path("edgesteer.toml").write_text("[steering.proximity]\nallow_documentation_prefixes = true\n")
    assert dry_run(str(path))[1]["announced"] == 1


def test_a_fleet_file_is_checked_without_a_broker() -> None:
    result = run(fleet.app, "apply", str(EXAMPLE), "--dry-run", "--json")
    assert json.loads(result.stdout) == {"checked": 12}
    assert isinstance(run(fleet.app, "apply", str(EXAMPLE)).exception, UsageError)


def test_a_wrong_fleet_file_is_refused_with_lines(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text('[[site]]\nid = "a"\nregion = "r"\nlat = 1\nlon = 1\n')
    error = run(fleet.app, "apply", str(path), "--dry-run").exception
    assert isinstance(error, ConfigError)
    assert str(error) == f"{path}:3: site a names region r, which there is not"
