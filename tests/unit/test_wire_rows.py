"""The account of rows (L3) and the screen that refuses some of them."""

import numpy as np
import polars as pl
import pytest

from pipeline.errors import LogError
from pipeline.reasons import Noted, Refusal
from pipeline.wire.rows import OFFSET, Account, Refused, TopicRows, screen


def rows(refused: int = 0) -> TopicRows:
    frame = pl.DataFrame({"x": [1, 2, 3, 4], OFFSET: [10, 11, 12, 13]})
    letters = [Refused(20 + n, Refusal.UNDECODABLE) for n in range(refused)]
    return TopicRows("play.events", {"PlayEvent": frame}, letters)


def test_l3_an_account_closes_when_every_row_is_folded_or_refused() -> None:
    account = Account()
    account.arrive(rows(refused=2))
    account.fold("play.events", 3)
    account.refuse("play.events", [13], Refusal.OUT_OF_RANGE, "x 4")
    account.close()
    assert account.rows["play.events"] == rows(refused=2).count == 6
    assert [letter.offset for letter in account.refused["play.events"]] == [20, 21, 13]


@pytest.mark.parametrize("folded", [3, 5])
def test_l3_an_account_does_not_close_over_a_lost_or_invented_row(folded: int) -> None:
    account = Account()
    account.arrive(rows())
    account.fold("play.events", folded)
    with pytest.raises(LogError, match=r"play\.events: 4 rows came"):
        account.close()


def test_what_did_not_happen_is_not_noted() -> None:
    account = Account()
    account.note(Noted.LATE, 0)
    account.note(Noted.DUPLICATE, np.int64(2))
    assert dict(account.notes) == {Noted.DUPLICATE: 2}


def test_screen_refuses_each_bad_row_once_with_the_first_reason() -> None:
    account = Account()
    frame = rows().frames["PlayEvent"]
    first = np.array([False, True, False, False])
    second = np.array([True, True, False, False])
    kept = screen(
        "play.events",
        frame,
        [(Refusal.NOT_A_NUMBER, first), (Refusal.OUT_OF_RANGE, second)],
        account,
    )
    assert kept.get_column(OFFSET).to_list() == [12, 13]
    assert [(r.offset, r.reason) for r in account.refused["play.events"]] == [
        (11, Refusal.NOT_A_NUMBER),
        (10, Refusal.OUT_OF_RANGE),
    ]


def test_screen_leaves_a_good_frame_alone() -> None:
    account = Account()
    frame = rows().frames["PlayEvent"]
    assert screen("play.events", frame, [(Refusal.BOGON, np.zeros(4, bool))], account) is frame
    assert not account.refused
