"""Addresses and prefixes: text, bytes, columns."""

from ipaddress import ip_address, ip_network

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import WireError
from pipeline.reasons import Refusal
from pipeline.wire import address as ad


@given(st.ip_addresses())
def test_addresses_survive_the_way_through_bytes(address: object) -> None:
    text = str(address)
    packed = ad.parse_address(text)
    assert len(packed) == 16
    shown = ip_address(ad.format_address(packed))
    assert shown == address or getattr(address, "ipv4_mapped", None) == shown


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_v4_prefixes_survive_and_are_96_longer(address: object, length: int) -> None:
    network = ip_network(f"{address}/{length}", strict=False)
    packed = ad.parse_prefix(str(network))
    assert packed[16] == 96 + length
    assert ad.format_prefix(packed) == str(network)


@given(st.ip_addresses(v=6), st.integers(0, 128))
def test_v6_prefixes_survive(address: object, length: int) -> None:
    network = ip_network(f"{address}/{length}", strict=False)
    packed = ad.parse_prefix(str(network))
    assert packed[16] == length
    assert ad.parse_prefix(ad.format_prefix(packed)) == packed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("203.0.113.1/24", Refusal.HOST_BITS),
        ("2001:db8::1/64", Refusal.HOST_BITS),
        ("1.2.3.4/33", Refusal.BAD_PREFIX_LENGTH),
        ("::/129", Refusal.BAD_PREFIX_LENGTH),
        ("1.2.3.0/", Refusal.BAD_PREFIX_LENGTH),
        ("1.2.3.0/-1", Refusal.BAD_PREFIX_LENGTH),
        ("1.2.3.0/2²", Refusal.BAD_PREFIX_LENGTH),
        ("1.2.3/8", Refusal.UNDECODABLE),
        ("", Refusal.UNDECODABLE),
        ("fe80::1%eth0", Refusal.UNDECODABLE),
    ],
)
def test_bad_prefixes_name_their_reason(text: str, reason: Refusal) -> None:
    with pytest.raises(WireError) as caught:
        ad.parse_prefix(text)
    assert caught.value.reason is reason


def test_a_prefix_without_a_length_is_one_address() -> None:
    assert ad.format_prefix(ad.parse_prefix("192.0.2.1")) == "192.0.2.1/32"
    assert ad.format_prefix(ad.parse_prefix("2001:db8::1")) == "2001:db8::1/128"


@given(st.lists(st.binary(min_size=17, max_size=17), max_size=40))
def test_prefix_columns_and_back(prefixes: list[bytes]) -> None:
    series = pl.Series(prefixes, dtype=pl.Binary)
    hi, lo, length = ad.prefix_columns(series)
    assert (hi.dtype, lo.dtype, length.dtype) == (np.uint64, np.uint64, np.uint8)
    for row, prefix in enumerate(prefixes):
        assert int(hi[row]) << 64 | int(lo[row]) == int.from_bytes(prefix[:16], "big")
        assert length[row] == prefix[16]
    matrix = ad.prefix_bytes(hi, lo, length)
    assert [bytes(row) for row in matrix] == prefixes


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=40))
def test_halves_keep_the_order_of_addresses(addresses: list[bytes]) -> None:
    hi, lo = ad.halves(pl.Series(addresses, dtype=pl.Binary))
    assert np.lexsort((lo, hi)).tolist() == sorted(range(len(addresses)), key=addresses.__getitem__)


def test_masks_cover_exactly_the_length() -> None:
    length = np.arange(129, dtype=np.uint8)
    hi, lo = ad.masks(length)
    for n in range(129):
        assert int(hi[n]) << 64 | int(lo[n]) == ((1 << n) - 1) << (128 - n)
    over_hi, over_lo = ad.masks(np.array([200], dtype=np.uint8))
    assert (over_hi[0], over_lo[0]) == (hi[128], lo[128])
