"""Path attributes: paths and their lengths, the merge of AS4_PATH, and RFC 7606's errors."""

import struct

import pytest

from pipeline.feeds.bgp import Attributes, Context, parse_attributes
from tests import mrt_files as mrt

WIDE, NARROW, RIB = Context(4, False), Context(2, False), Context(4, True)
SET, SEQUENCE, CONFED, CONFED_SET = 1, 2, 3, 4


def parsed(block: bytes, context: Context = WIDE) -> Attributes:
    return parse_attributes(block, context)


def with_path(*segments: tuple[int, tuple[int, ...]], size: int = 4) -> bytes:
    value = b"".join(mrt.segment(kind, numbers, size) for kind, numbers in segments)
    return mrt.ORIGIN + mrt.attribute(2, value) + mrt.NEXT_HOP


@pytest.mark.parametrize(
    ("segments", "text", "hops"),
    [
        ([], "", 0),
        ([(SEQUENCE, (1, 2))], "1 2", 2),
        ([(SEQUENCE, (1,)), (SET, (3, 2))], "1 {3,2}", 2),
        ([(CONFED, (65001, 65002)), (SEQUENCE, (1,))], "(65001 65002) 1", 1),
        ([(CONFED_SET, (65001, 65002)), (SET, (9,))], "[65001,65002] {9}", 1),
        ([(SEQUENCE, (1,)), (SEQUENCE, (1, 1))], "1 1 1", 3),
    ],
)
def test_a_set_counts_one_and_confederations_none(
    segments: list[tuple[int, tuple[int, ...]]], text: str, hops: int
) -> None:
    found = parsed(with_path(*segments))
    assert (found.as_path, found.as_path_len, found.flaw) == (text, hops, "")


def test_paths_of_more_than_255_bytes_have_extended_lengths() -> None:
    assert parsed(with_path((SEQUENCE, tuple(range(1, 101))))).as_path_len == 100


@pytest.mark.parametrize(
    ("old", "new", "text", "hops"),
    [
        # RFC 6793 4.2.3: the leading part that only the old path has, then the new one
        ([(SEQUENCE, (7, 23456, 23456))], [(SEQUENCE, (70_000, 80_000))], "7 70000 80000", 3),
        ([(SEQUENCE, (7, 8))], [(SEQUENCE, (7, 8))], "7 8", 2),
        # a new path that is longer is stale
        ([(SEQUENCE, (7,))], [(SEQUENCE, (70_000, 80_000))], "7", 1),
        ([(SEQUENCE, (7, 9)), (SET, (5, 6))], [(SET, (70_000, 6))], "7 9 {70000,6}", 3),
        ([(CONFED, (65_001,)), (SEQUENCE, (7, 23456))], [(SEQUENCE, (9, 70_000))],
         "(65001) 9 70000", 2),
        # confederations have no place in AS4_PATH
        ([(SEQUENCE, (7, 23456))], [(CONFED, (65_001,)), (SEQUENCE, (70_000,))], "7 70000", 2),
    ],
)  # fmt: skip
def test_as4_path_completes_a_path_of_two_bytes(
    old: list[tuple[int, tuple[int, ...]]],
    new: list[tuple[int, tuple[int, ...]]],
    text: str,
    hops: int,
) -> None:
    newer = mrt.attribute(17, b"".join(mrt.segment(*each) for each in new), 0xC0)
    found = parsed(with_path(*old, size=2) + newer, NARROW)
    assert (found.as_path, found.as_path_len) == (text, hops)


def test_as4_path_is_ignored_on_wide_sessions_and_after_an_old_aggregator() -> None:
    newer = mrt.attribute(17, mrt.segment(SEQUENCE, (70_000,)), 0xC0)
    assert parsed(with_path((SEQUENCE, (7,))) + newer).as_path == "7"
    aggregators = mrt.attribute(7, struct.pack(">HI", 7, 1), 0xC0)
    aggregators += mrt.attribute(18, struct.pack(">II", 70_000, 1), 0xC0)
    old = with_path((SEQUENCE, (23456,)), size=2)
    assert parsed(old + newer, NARROW).as_path == "70000"
    assert parsed(old + newer + aggregators, NARROW).as_path == "23456"


def test_a_path_of_the_other_size_than_declared_is_read_all_the_same() -> None:
    assert parsed(with_path((SEQUENCE, (7, 8, 9)), size=2)).as_path == "7 8 9"
    assert parsed(with_path((SEQUENCE, (70_000,))), NARROW).as_path == "70000"


@pytest.mark.parametrize(
    "block",
    [
        mrt.attribute(1, b"\x03"),
        mrt.attribute(1, b""),
        mrt.attribute(2, b"\x02\x00"),
        mrt.attribute(2, b"\x02\x05\x00"),
        mrt.attribute(2, b"\x09\x01\x00\x00\x00\x01"),
        mrt.attribute(3, b"\x01\x02\x03"),
        mrt.attribute(4, b"\x01", 0x80),
        mrt.attribute(5, b"\x01\x02\x03\x04\x05"),
        mrt.attribute(8, b"", 0xC0),
        mrt.attribute(8, b"\x01\x02\x03", 0xC0),
        mrt.attribute(14, b"\x00\x02\x01", 0x80),
        mrt.attribute(14, b"\x00\x02\x01\x10\x20", 0x80),
        mrt.attribute(14, b"\x00\x02\x01\x03\x20\x20\x20\x00", 0x80),
        mrt.attribute(15, b"\x00", 0x80),
        mrt.mp_unreach(b"") * 2,
        mrt.attribute(4, bytes(4), 0x40),  # MED is optional
    ],
)
def test_what_rfc_7606_treats_as_a_withdrawal_is_a_flaw(block: bytes) -> None:
    found = parsed(block)
    assert found.flaw
    assert not found.cut


def test_what_rfc_7606_discards_is_left_out() -> None:
    extra = (
        mrt.attribute(7, b"\x01", 0xC0) + mrt.attribute(6, b"\x01") + mrt.attribute(200, b"x", 0xC0)
    )
    assert parsed(mrt.attributes(extra)).flaw == ""
    again = parsed(mrt.attributes(mrt.path(9, 9, 9)))
    assert (again.as_path, again.flaw) == ("3356 1299", "")


@pytest.mark.parametrize("block", [b"\x40", b"\x40\x01", b"\x40\x01\x05\x00", b"\x50\x01\x00"])
def test_a_block_that_ends_inside_an_attribute_is_cut(block: bytes) -> None:
    found = parsed(block)
    assert found.cut
    assert found.flaw


def test_rib_entries_need_no_right_flags() -> None:
    assert parsed(mrt.attribute(4, bytes(4), 0x40), RIB).flaw == ""


def test_subnetwork_points_of_attachment_are_stepped_over() -> None:
    value = b"\x00\x02\x01\x10" + b"\x20" * 16 + b"\x02\x03\xaa\xbb\x01\xcc" + mrt.nlri("2a00::/12")
    found = parsed(mrt.attribute(14, value, 0x80))
    assert found.reach is not None
    assert found.reach.nlri == mrt.nlri("2a00::/12")
