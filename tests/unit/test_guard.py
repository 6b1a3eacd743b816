"""L7: what would empty or upset a table without a cause is held, and let go again by rule."""

import pytest

from pipeline.decide.guard import HOLD_MS, SETTLE_MS, Guard, Move
from pipeline.reasons import Reason

QUIET = SETTLE_MS + 1_000_000


def move(moved: int, *, after: int = 100, cause: bool = False, touched: int = -1) -> Move:
    return Move(100, after, moved, moved if touched < 0 else touched, cause)


def test_the_first_build_passes() -> None:
    assert Guard().judge(Move(0, 100, 0, 100, False), QUIET, 0.5)


@pytest.mark.parametrize("cause", [False, True])
def test_l7_a_table_is_never_emptied_whatever_the_cause(cause: bool) -> None:
    guard = Guard()
    for now_ms in range(QUIET, QUIET + 10 * HOLD_MS, 1000):
        assert not guard.judge(move(100, after=0, cause=cause), now_ms, 0.5)
        assert guard.held_reason is Reason.EMPTY_TABLE
    assert guard.judge(move(3), QUIET + 10 * HOLD_MS, 0.5)
    assert guard.held_reason is None


def test_l7_more_than_the_set_share_is_held_and_not_less() -> None:
    assert Guard().judge(move(50), QUIET, 0.5)
    guard = Guard()
    assert not guard.judge(move(51), QUIET, 0.5)
    assert guard.held_reason is Reason.MOVED_TOO_MUCH


def test_a_cause_lets_it_pass() -> None:
    assert Guard().judge(move(100, cause=True), QUIET, 0.5)


def test_what_was_stirred_with_a_cause_settles_before_it_is_watched_again() -> None:
    guard = Guard()
    assert guard.judge(move(1, cause=True), QUIET, 0.5)
    assert guard.judge(move(90), QUIET + 1000, 0.5)
    assert guard.judge(move(0), QUIET + SETTLE_MS // 2, 0.5)
    assert not guard.judge(move(90), QUIET + 1000 + SETTLE_MS, 0.5)


def test_a_move_that_lasts_is_confirmed() -> None:
    guard = Guard()
    for now_ms in range(QUIET, QUIET + HOLD_MS, 1000):
        assert not guard.judge(move(80), now_ms, 0.5)
    assert guard.judge(move(80), QUIET + HOLD_MS, 0.5)
    assert guard.held_reason is None


def test_a_move_that_comes_back_is_let_go_at_once() -> None:
    guard = Guard()
    assert not guard.judge(move(80), QUIET, 0.5)
    assert guard.judge(move(2), QUIET + 1000, 0.5)
    assert guard.held_reason is None


def test_a_table_that_was_empty_and_returns_upset_is_still_held() -> None:
    guard = Guard()
    assert not guard.judge(move(100, after=0), QUIET, 0.5)
    assert not guard.judge(move(80), QUIET + 1000, 0.5)
    assert guard.held_reason is Reason.MOVED_TOO_MUCH
    assert guard.judge(move(80), QUIET + 1000 + HOLD_MS, 0.5)
