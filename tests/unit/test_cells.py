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
    read = [0]
    cells.changelog_read = lambda: read[0]
    for _ in range(10):  # five minutes of it
        now[0] += PATIENCE_S / 2
        read[0] += 1
        cells.note_recovery()
        assert cells.stalled(PATIENCE_S) == []
    now[0] += PATIENCE_S + 1  # and then no more of it comes
    cells.note_recovery()
    assert len(cells.stalled(PATIENCE_S)) == 1


def test_what_is_read_when_cells_are_given_starts_no_clock(cells: Cells, now: list[float]) -> None:
    assert cells.keep([]) == set()  # this worker gets none
    cells.changelog_read = lambda: 5  # a standby reads
    cells.note_recovery()
    now[0] += 10 * PATIENCE_S
    assert cells.stalled(PATIENCE_S) == []
