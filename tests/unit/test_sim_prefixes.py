"""Client prefixes: as many as asked for, nested and as long as real ones, and nobody's bogons."""

import numpy as np
import pytest

from pipeline.sim.prefixes import generate
from pipeline.wire.bogons import is_bogon, is_default


def made(count: int, seed: int = 1):
    return generate(np.random.Generator(np.random.PCG64(seed)), count)


def pairs(prefixes) -> list[tuple[int, int, int]]:
    return list(
        zip(prefixes.hi.tolist(), prefixes.lo.tolist(), prefixes.length.tolist(), strict=True)
    )


@pytest.mark.parametrize("count", [200, 207, 333, 1_000, 4_321, 20_000])
def test_there_are_exactly_as_many_distinct_prefixes_as_asked_for(count: int) -> None:
    assert len(set(pairs(made(count, seed=count)))) == count


def test_host_bits_are_zero_and_nothing_is_default_or_bogon() -> None:
    prefixes = made(20_000)
    for hi, lo, length in pairs(prefixes):
        assert (hi << 64 | lo) & ((1 << (128 - length)) - 1) == 0
    hi, lo, length = prefixes.hi, prefixes.lo, prefixes.length
    assert not is_default(hi, lo, length).any()
    assert not is_bogon(hi, lo, length, allow_documentation=True).any()
    assert np.flatnonzero(is_bogon(hi, lo, length)).tolist() == [0, 1], "the documentation nets"


def test_prefixes_nest_several_levels_deep_in_both_families() -> None:
    prefixes = made(20_000)
    known = {
        (start, bits, four)
        for start, bits, four in zip(
            prefixes.start.tolist(), prefixes.bits.tolist(), prefixes.is_ipv4.tolist(), strict=True
        )
    }

    def covers(start: int, bits: int, four: bool) -> int:
        return sum(
            (start >> (64 - length) << (64 - length), length, four) in known
            for length in range(11, bits)
        )

    depth = {four: [covers(*each) for each in known if each[2] is four] for four in (True, False)}
    for found in depth.values():
        assert np.mean([each > 0 for each in found]) > 0.5
    assert max(depth[True]) >= 3
    inside = [at for at in range(len(prefixes)) if not prefixes.is_allocation[at]]
    assert all(
        covers(int(prefixes.start[at]), int(prefixes.bits[at]), bool(prefixes.is_ipv4[at]))
        for at in inside
    ), "whatever is no allocation lies in something"


def test_allocations_do_not_overlap() -> None:
    prefixes = made(20_000)
    for four in (True, False):
        own = prefixes.is_allocation & (prefixes.is_ipv4 == four)
        order = np.argsort(prefixes.start[own])
        start = prefixes.start[own][order].astype(object)
        size = [1 << (64 - int(bits)) for bits in prefixes.bits[own][order]]
        assert all(a + s <= b for a, s, b in zip(start[:-1], size, start[1:], strict=False))


def test_lengths_are_those_of_a_real_table() -> None:
    prefixes = made(20_000)
    four, six = prefixes.bits[prefixes.is_ipv4], prefixes.bits[~prefixes.is_ipv4]
    assert 0.5 < np.mean(four == 24) < 0.6
    assert 0.08 < np.mean(four == 22) < 0.14
    assert 0.4 < np.mean(six == 48) < 0.55
    assert 0.2 < np.mean(six == 32) < 0.4
    assert (four.min(), four.max()) == (12, 24) or four.min() == 11
    assert (six.min(), six.max()) == (28, 48)
    assert 0.15 < np.mean(~prefixes.is_ipv4) < 0.18


def test_what_ipv4_has_no_room_for_is_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sim.prefixes.IPV4_MAX", 4_000)
    prefixes = made(6_000)
    assert prefixes.is_ipv4.sum() == 4_001  # and one for documentation
    assert len(set(pairs(prefixes))) == 6_000
