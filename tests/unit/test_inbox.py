"""The inbox hands over exactly the rows before a cut, whatever the chunks were."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.wire.encode import encode
from pipeline.wire.rows import OFFSET
from schemas.registry import BGP_ROUTES, LB_WEIGHTS, TRAFFIC_LINKS
from topologies.chunks import Chunk
from topologies.inbox import Inbox, Lane


def sample(number: int) -> bytes:
    fields = {"link": f"l{number}", "at_ms": number, "used_bps": 1, "capacity_bps": 2, "drops": 0}
    return encode("LinkSample", fields)


def chunk(start: int, end: int, topic: str = TRAFFIC_LINKS.name) -> Chunk:
    values: list[bytes | None] = [
        b"rubbish" if number % 7 == 3 else sample(number) for number in range(start, end)
    ]
    return Chunk(topic, 0, np.arange(start, end, dtype=np.int64), values, None, end)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 60), max_size=8, unique=True),
    st.lists(st.integers(1, 60), max_size=8, unique=True),
)
def test_rows_and_raw_do_not_depend_on_the_chunks(splits: list[int], cuts: list[int]) -> None:
    lane = Lane(TRAFFIC_LINKS.name, 0)
    edges = [0, *sorted(splits), 61]
    for start, end in pairwise(edges):
        lane.append(chunk(start, end))
    taken_until = 0
    for end in [*sorted(cuts), 61]:
        rows, raw = lane.take(end)
        expected = range(taken_until, end)
        good = [number for number in expected if number % 7 != 3]
        frame = rows.frames.get("LinkSample")
        assert (frame[OFFSET].to_list() if frame is not None else []) == good
        assert [one.offset for one in rows.refused] == [n for n in expected if n % 7 == 3]
        assert rows.count == len(expected)
        whole = Lane(TRAFFIC_LINKS.name, taken_until)
        if expected:
            whole.append(chunk(taken_until, end))
        assert raw.digest() == whole.take(end)[1].digest()
        for number in expected:
            assert raw.at(number) == (b"rubbish" if number % 7 == 3 else sample(number))
        taken_until = end
    assert lane.held_bytes == 0


def test_what_is_fetched_again_after_a_rebalance_counts_once() -> None:
    lane = Lane(TRAFFIC_LINKS.name, 0)
    lane.append(chunk(0, 10))
    lane.append(chunk(4, 15))
    rows, _ = lane.take(15)
    assert rows.count == 15


def test_a_lane_that_starts_later_drops_what_lies_before() -> None:
    lane = Lane(TRAFFIC_LINKS.name, 8)
    lane.append(chunk(0, 12))
    assert lane.take(12)[0].count == 4


def test_an_empty_chunk_after_control_records_still_moves_the_position() -> None:
    inbox = Inbox({})
    empty = np.empty(0, dtype=np.int64)
    inbox.append(Chunk(TRAFFIC_LINKS.name, 0, empty, [], None, 5))
    assert inbox.offsets()[TRAFFIC_LINKS.name] == 5
    assert inbox.reached({TRAFFIC_LINKS.name: 5})
    assert not inbox.reached({TRAFFIC_LINKS.name: 6})


def test_tombstones_reach_the_fold_with_their_keys() -> None:
    inbox = Inbox({})
    offsets = np.array([3, 9], dtype=np.int64)
    keys: list[bytes | None] = [b"s|p|10.0.0.0/8|0", b"s|q|10.0.0.0/8|0"]
    inbox.append(Chunk(BGP_ROUTES.name, 0, offsets, [None, None], keys, 10))
    rows, raw = inbox.take({BGP_ROUTES.name: 10})
    assert rows[BGP_ROUTES.name].frames["Tombstone"]["key"].to_list() == keys
    assert raw[BGP_ROUTES.name].at(9) == b""


def test_a_lane_is_full_by_its_bytes_and_earlier_with_routes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = chunk(0, 10).size_bytes
    monkeypatch.setattr("topologies.inbox.LANE_BYTES_MAX", 5 * size // 2)
    monkeypatch.setattr("topologies.inbox.ROUTE_BYTES_MAX", 3 * size // 2)
    links, routes = Lane(TRAFFIC_LINKS.name, 0), Lane(BGP_ROUTES.name, 0)
    full = []
    for start in range(0, 30, 10):
        for lane in (links, routes):
            lane.append(chunk(start, start + 10, lane.topic))
        full.append((links.is_full, routes.is_full))
    assert full == [(False, False), (False, True), (True, True)]
    links.take(30)
    assert not links.is_full


def test_only_inputs_have_lanes() -> None:
    assert LB_WEIGHTS.name not in Inbox({}).lanes
