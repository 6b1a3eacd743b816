"""Which cuts and which rows belong to a recording."""

from dataclasses import replace

from pipeline.cut import Cause, Cut
from pipeline.replay.fold import cut_of, epoch_of
from pipeline.replay.manifest import CellSpan
from pipeline.replay.recorder import CutLog
from pipeline.wire.encode import encode
from schemas.registry import PLAY_EVENTS


def cut(number: int, at_ms: int, *, term: int = 1, writer: str = "w0", plays: int = 0) -> Cut:
    ends = {PLAY_EVENTS.name: plays}
    return Cut(2, number, term, writer, at_ms, Cause.TICK, ends, "0" * 16, 1)


def test_cuts_before_the_time_are_the_lead_in_and_later_ones_are_left_out() -> None:
    log = CutLog(CellSpan(2), from_ms=20, to_ms=40)
    taken = [log.take(cut(n, 10 * n, plays=7 * n)) for n in range(1, 6)]
    assert taken == [True, True, True, True, False]
    assert log.span == CellSpan(2, 0, cuts=4, lead_in=1, first_at_ms=10, last_at_ms=40)
    assert log.ends == {PLAY_EVENTS.name: 28}


def test_what_does_not_count_stays_in_but_neither_ends_nor_lengthens_it() -> None:
    log = CutLog(CellSpan(2), from_ms=0, to_ms=40)
    zombie = cut(1, 99, writer="zombie", plays=1000)
    assert [log.take(one) for one in (cut(1, 10), zombie, None, cut(2, 20))] == [True] * 4
    assert (log.span.cuts, log.span.last_at_ms, log.ends) == (2, 20, {PLAY_EVENTS.name: 0})


def test_rows_reach_as_far_as_the_furthest_cut() -> None:
    """A writer that takes over may not have read as far as the one before."""
    log = CutLog(CellSpan(2), from_ms=0, to_ms=40)
    log.take(cut(1, 10, plays=50))
    log.take(cut(2, 20, term=2, writer="w1", plays=30))
    assert log.ends == {PLAY_EVENTS.name: 50}


def test_a_log_without_its_beginning_is_taken_on_trust() -> None:
    log = CutLog(CellSpan(2, log_begin=500), from_ms=0, to_ms=40)
    assert log.take(cut(501, 10))
    assert log.take(replace(cut(502, 20), term=2, writer="w1"))
    assert (log.span.cuts, log.span.first_at_ms) == (2, 10)


def test_only_cuts_are_cuts_and_only_epochs_are_epochs() -> None:
    one = cut(3, 30)
    value = encode("Cut", one.to_record())
    assert cut_of(value) == one
    assert epoch_of(value) is None
    for rubbish in (
        None,
        b"",
        value[:-1],
        value[:12],
        encode("Config", {"hash": "", "config": ""}),
    ):
        assert cut_of(rubbish) is None
