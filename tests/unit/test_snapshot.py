"""Snapshots as bytes: the codec, what binds sections together, and what is refused."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from xxhash import xxh3_64_hexdigest

from pipeline.cell import Cell
from pipeline.errors import SnapshotError
from pipeline.state.codec import FORMAT, blobs, blobs_of, pack, unpack, within
from tests.cell_world import fold, make_log

ARRAYS = hnp.arrays(
    st.sampled_from(["?", "u1", "<i2", "<i4", "<i8", "<u8", "<f8", ">i4", "S17"]),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5),
)
VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=9)
PLAIN = VALUES | st.floats(allow_nan=False, allow_infinity=False) | st.lists(VALUES, max_size=3)
FIELDS = st.dictionaries(st.text(max_size=5), ARRAYS | PLAIN, max_size=5)


def packed(fields: Mapping[str, Any]) -> bytes:
    return bytes(pack("sample", fields))


SAMPLE = packed({"column": np.arange(9, dtype=np.int32), "names": ["eu", "übersee"], "n": 7})


@given(FIELDS)
def test_fields_come_back_as_they_were(fields: dict) -> None:
    found = unpack("sample", packed(fields))
    assert list(found) == list(fields)
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype.newbyteorder("<")
            np.testing.assert_array_equal(found[name], value)
            assert found[name].flags.writeable
        else:
            assert found[name] == value
            assert type(found[name]) is type(value)


@given(FIELDS)
def test_the_same_fields_give_the_same_bytes(fields: dict) -> None:
    data = packed(fields)
    assert packed(unpack("sample", data)) == data
    assert len(data) % 8 == 0


@given(st.lists(st.binary(max_size=9)))
def test_byte_strings_come_back(values: list[bytes]) -> None:
    fields = unpack("sample", packed(within("them", blobs(values))))
    assert blobs_of(fields.part("them")) == values


def test_a_view_of_a_longer_array_takes_only_its_own_rows() -> None:
    room = np.zeros((4, 1000, 3), np.int64)
    assert packed({"ring": room[:, :2]}) == packed({"ring": np.zeros((4, 2, 3), int)})


@pytest.mark.parametrize("at", range(0, len(SAMPLE), 3))
def test_a_damaged_byte_is_seen(at: int) -> None:
    damaged = bytearray(SAMPLE)
    damaged[at] ^= 0x10
    with pytest.raises(SnapshotError):
        unpack("sample", bytes(damaged))


@pytest.mark.parametrize("length", range(0, len(SAMPLE), 5))
def test_a_snapshot_cut_off_is_seen(length: int) -> None:
    with pytest.raises(SnapshotError):
        unpack("sample", SAMPLE[:length])


@given(st.binary(max_size=60))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        unpack("sample", data)


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(SnapshotError, match="section routes: another section: sample"):
        unpack("routes", SAMPLE)
    with pytest.raises(SnapshotError, match="no snapshot: it begins with b'PK"):
        unpack("routes", b"PK\x03\x04 an archive")
    with pytest.raises(SnapshotError, match=f"of format ff, not {FORMAT:02x}"):
        unpack("sample", SAMPLE[:7] + b"\xff" + SAMPLE[8:])
    with pytest.raises(SnapshotError, match="damaged"):
        unpack("sample", SAMPLE[:-8])
    with pytest.raises(SnapshotError, match="has no field rows"):
        unpack("sample", SAMPLE)["rows"]


def test_what_the_format_does_not_know_is_not_packed() -> None:
    for value in (np.array([object()]), {1, 2}, b"bytes"):
        with pytest.raises(TypeError):
            pack("sample", {"value": value})


@pytest.fixture(scope="module")
def two() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The snapshots of a cell after 7 cuts, and after 20."""
    cell, found = Cell(0, 1), []
    for cut, _ in fold(make_log(1, 20, bad=False), cell):
        if cut.number in (7, 20):
            found.append(cell.to_bytes())
    return found[0], found[1]


def test_sections_of_two_snapshots_are_not_mixed(two: tuple) -> None:
    before, after = two
    for name in after:
        if before[name] != after[name]:
            with pytest.raises(SnapshotError, match="of another snapshot"):
                Cell.from_bytes(0, 1, {**after, name: before[name]})


def test_a_missing_section_is_named(two: tuple) -> None:
    for name in two[1]:
        some = {key: data for key, data in two[1].items() if key != name}
        with pytest.raises(SnapshotError, match=f"section {name}: is not there"):
            Cell.from_bytes(0, 1, some)


def test_a_section_too_many_is_named(two: tuple) -> None:
    with pytest.raises(SnapshotError, match="section games: belongs to no"):
        Cell.from_bytes(0, 1, {**two[1], "games": SAMPLE})


def test_a_damaged_section_is_named(two: tuple) -> None:
    for name, data in two[1].items():
        damaged = data[:16] + bytes([data[16] ^ 1]) + data[17:]
        with pytest.raises(SnapshotError, match=f"section {name}: damaged"):
            Cell.from_bytes(0, 1, {**two[1], name: damaged})


@pytest.mark.parametrize("place", [(1, 1), (0, 2)])
def test_a_snapshot_of_another_partition_is_refused(two: tuple, place: tuple[int, int]) -> None:
    with pytest.raises(SnapshotError, match="of partition 0 of 1"):
        Cell.from_bytes(*place, two[1])


def test_a_snapshot_does_not_share_memory_with_its_cell() -> None:
    cell = Cell(0, 1)
    run = fold(make_log(1, 20, bad=False), cell)
    for _ in range(10):
        next(run)
    sections = cell.to_bytes()
    copies = {name: bytes(bytearray(data)) for name, data in sections.items()}
    list(run)
    assert sections == copies


def test_other_fields_have_another_format_number(two: tuple) -> None:
    """Whoever changes what a section stores raises FORMAT, and puts the new digest here."""
    told = []
    for section, data in two[1].items():
        for name, value in unpack(section, data).items():
            told.append(f"{section} {name} {getattr(value, 'dtype', 'value')}")
    assert (FORMAT, xxh3_64_hexdigest("\n".join(told).encode())) == (7, "472610d0db188f0f")
