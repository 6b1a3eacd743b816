"""`edgesteer drain` and `undrain`: what they refuse, what they ask, what they say."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli import drain
from pipeline.cli.main import app
from pipeline.errors import UsageError
from pipeline.feeds import inventory
from pipeline.feeds.drains import DRAIN, UNDRAIN, Target
from pipeline.feeds.inventory import Current
from tests.unit.test_feeds_drains import FRA, SMALL, US, with_order

NOW_MS = 1_800_000_000_000
MINUTE_MS = 60_000


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Target, str, int]]:
    """What was published instead of being sent; the clock stands."""
    sent: list[tuple[Target, str, int]] = []

    async def publish(broker: Any, target: Target, action: str, by: str) -> int:
        sent.append((target, action, drain._deadline_ms(by, NOW_MS)))
        return sent[-1][-1]

    monkeypatch.setattr(drain, "_publish", publish)
    monkeypatch.setattr(drain, "_now_ms", lambda: NOW_MS)
    holds(monkeypatch, SMALL)
    return sent


def holds(monkeypatch: pytest.MonkeyPatch, current: Current) -> None:
    async def read(broker: Any) -> Current:
        return current

    monkeypatch.setattr(inventory, "read_inventory", read)


def run(*args: str) -> Result:
    result = CliRunner().invoke(app, [*args, "--broker", "127.0.0.1:1"])
    if isinstance(result.exception, UsageError):
        raise result.exception
    return result


@pytest.mark.parametrize(
    ("by", "after_ms"),
    [
        ("10m", 10 * MINUTE_MS),
        ("1h30m", 90 * MINUTE_MS),
        ("now", 0),
        ("2027-01-15T08:10:00Z", 600_000),
    ],
)
def test_a_deadline_is_a_time_from_now_or_a_moment(
    published: list[tuple[Target, str, int]], by: str, after_ms: int
) -> None:
    result = run("drain", "fra1", "--by", by, "--yes")
    assert result.exit_code == 0
    assert published == [(FRA, DRAIN, NOW_MS + after_ms)]
    assert "`edgesteer undrain fra1` undoes it" in result.stdout


def test_a_region_and_the_way_back_and_json(
    published: list[tuple[Target, str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    holds(monkeypatch, with_order(SMALL, US, DRAIN, NOW_MS - 1))
    result = run("undrain", "us", "--yes", "--json")
    assert published == [(US, UNDRAIN, NOW_MS + 10 * MINUTE_MS)]
    assert json.loads(result.stdout) == {
        "kind": "drain",
        "action": "undrain",
        "scope": "region",
        "entity": "us",
        "region": "us",
        "deadline": "2027-01-15T08:10:00.000Z",
        "published": True,
    }


def test_what_is_so_already_is_not_ordered_again(
    published: list[tuple[Target, str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("undrain", "fra1", "--yes")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "fra1 is in service already" in result.stderr
    holds(monkeypatch, with_order(SMALL, FRA, DRAIN, NOW_MS))
    told = json.loads(run("drain", "fra1", "--yes", "--json").stdout)
    assert (told["published"], told["deadline"]) == (False, None)
    assert not published
    holds(monkeypatch, with_order(SMALL, FRA, DRAIN, NOW_MS + 1))
    run("drain", "fra1", "--yes")
    assert len(published) == 1  # another deadline for a drain under way


def test_who_undrains_a_site_of_a_drained_region_is_told(
    published: list[tuple[Target, str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    eu = Target("region", "eu", "eu")
    both = with_order(with_order(SMALL, FRA, DRAIN, NOW_MS), eu, DRAIN, NOW_MS)
    holds(monkeypatch, both)
    result = run("undrain", "fra1", "--yes")
    assert "fra1 stays out as long as its region eu is drained" in result.stderr
    assert published == [(FRA, UNDRAIN, NOW_MS + 10 * MINUTE_MS)]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("fra1", "--yes", "--dry-run"), "say one of them"),
        (("fra1", "--json"), "say --yes or --dry-run"),
        (("fra1", "--by", "soon", "--yes"), "is not a time"),
        (("fra1", "--by", "10 minutes", "--yes"), "is not a duration"),
        (("fra9", "--yes"), "did you mean fra1"),
    ],
)
def test_wrong_usage_is_told_and_nothing_published(
    published: list[tuple[Target, str, int]], args: tuple[str, ...], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        run("drain", *args)
    assert not published


def test_help_tells_it_from_the_drain_of_the_simulation() -> None:
    text = " ".join(CliRunner().invoke(app, ["drain", "--help"]).stdout.split())
    assert "edgesteer sim drain" in text.replace(" │ │ ", " ")
    assert "edgesteer drain" in " ".join(
        CliRunner().invoke(app, ["sim", "drain", "--help"]).stdout.split()
    )


@pytest.mark.parametrize(
    ("answer", "status", "orders"), [("y\n", 0, 1), ("n\n", 1, 0), ("\n", 1, 0)]
)
def test_after_the_preview_it_asks_and_does_nothing_unless_told_yes(
    published: list[tuple[Target, str, int]],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    status: int,
    orders: int,
) -> None:
    shown: list[Target] = []
    monkeypatch.setattr(
        drain, "_preview", lambda broker, target, *_, **__: not shown.append(target)
    )
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(drain, "sys", SimpleNamespace(stdin=terminal))
    result = CliRunner().invoke(app, ["drain", "fra1", "--broker", "127.0.0.1:1"], input=answer)
    assert (result.exit_code, len(published), shown) == (status, orders, [FRA])
    assert "Take site fra1 out of service by 2027-01-15T08:10:00.000Z?" in result.stderr


@pytest.mark.parametrize(("harmless", "status"), [(True, 0), (False, 1)])
def test_a_dry_run_says_by_its_status_whether_it_would_do_harm(
    published: list[tuple[Target, str, int]],
    monkeypatch: pytest.MonkeyPatch,
    harmless: bool,
    status: int,
) -> None:
    monkeypatch.setattr(drain, "_preview", lambda *_, **__: harmless)
    assert run("drain", "fra1", "--dry-run").exit_code == status
    assert not published
