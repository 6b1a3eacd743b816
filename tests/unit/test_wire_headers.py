import pytest

from pipeline.wire.headers import SIZE, pack_cut, unpack_cut, unpack_cuts
from pipeline.wire.tablehash import MODULUS, format_hash, record_hash, records_hash


def test_a_cut_header_is_read_back_as_it_was_written() -> None:
    assert len(pack_cut(7, 2**40, 3)) == SIZE
    assert unpack_cut(pack_cut(7, 2**40, 3)) == (7, 2**40, 3)


def test_columns_of_headers_agree_with_each_header() -> None:
    headers = [pack_cut(1, 5, 2), pack_cut(0, 2**62, 9)]
    partition, cut, term = unpack_cuts(headers)
    assert list(zip(partition, cut, term, strict=True)) == [unpack_cut(each) for each in headers]
    assert unpack_cuts([])[0].size == 0


def test_a_header_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        unpack_cut(b"short")


def test_the_layout_is_cut_term_partition_big_endian() -> None:
    assert pack_cut(1, 2, 3) == bytes([0] * 7 + [2] + [0] * 7 + [3] + [0] * 3 + [1])


def test_l4_the_hash_of_many_is_the_sum_of_each_whatever_the_order() -> None:
    records = {b"a": b"1", b"b": b"2", b"c": b"3"}
    each = sum(record_hash(key, value) for key, value in records.items()) % MODULUS
    assert records_hash(records.keys(), records.values()) == each
    backwards = dict(reversed(records.items()))
    assert records_hash(backwards.keys(), backwards.values()) == each
    assert format_hash(each) == f"{each:016x}"
