"""What a worker takes for standing still."""

from typing import Any, cast

import pytest

import topologies.cells
from topologies.cells import Cells

PATIENCE_S = 60.0


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moments = [1_000.0]
    monkeypatch.setattr(topologies.cells, "monotonic", lambda: moments[0])
    return moments


@pytest.fixture
def cells(now: list[float]) -> Cells:
    nothing = cast(Any, None)
    return Cells(4, writer="a", clock=nothing, configs=nothing, publishing=nothing,
                 snapshots=nothing, on_failure=lambda reason: None)  # fmt: skip


def test_a_group_that_gives_no_cells_is_told_after_a_while(cells: Cells, now: list[float]) -> None:
    now[0] += PATIENCE_S
    cells.note_recovery()
    assert cells.stalled(PATIENCE_S) == []
    now[0] += 1
    cells.note_recovery()
    assert cells.stalled(PATIENCE_S) == ["the group has given no cells for 61 s"]


def test_a_changelog_that_is_read_on_is_no_standing_still(cells: Cells, now: list[float]) -> None:
    left = {0: 500, 3: 800}
    cells.changelog_left = lambda: dict(left)
    for _ in range(10):  # five minutes of it
        now[0] += PATIENCE_S / 2
        left[3] -= 50
        cells.note_recovery()
        assert cells.stalled(PATIENCE_S) == []
    now[0] += PATIENCE_S + 1  # and then no more of it comes, while others write on
    left[0] += 70
    cells.note_recovery()
    assert len(cells.stalled(PATIENCE_S)) == 1


def test_what_is_read_when_cells_are_given_starts_no_clock(cells: Cells, now: list[float]) -> None:
    assert cells.keep([]) == set()  # this worker gets none
    cells.changelog_left = lambda: {1: 5}
    cells.note_recovery()
    now[0] += 10 * PATIENCE_S
    assert cells.stalled(PATIENCE_S) == []


def test_a_worker_that_reads_a_changelog_says_how_much_is_left(cells: Cells) -> None:
    cells.changelog_left = lambda: {3: 1270, 1: 0}
    assert cells.readiness() == {3: "reading its changelog: 1,270 records left"}
