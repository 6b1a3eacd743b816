"""Freed memory is given back after large cuts, and nothing happens where the C library cannot."""

import pytest

from topologies import heap
from topologies.heap import MANY, give_back


def test_memory_is_given_back_after_much_work_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pads: list[int] = []
    monkeypatch.setattr(heap, "_trim", pads.append)
    for count in (0, MANY - 1, MANY):
        give_back(count)
    assert pads == [0]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_trim", None)
    give_back()
