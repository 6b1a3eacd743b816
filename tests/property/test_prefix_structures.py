"""The index and the forest of prefixes against dicts and plain loops."""

from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decide.distance import distance_km, points
from pipeline.decide.rankings import entry_words, ranking_ids
from pipeline.state import keyindex
from pipeline.state.keyindex import KeyIndex, distinct
from pipeline.state.lpm import PrefixTree

WORDS = st.integers(0, 2**64 - 1) | st.integers(0, 3)
KEYS = st.lists(st.tuples(WORDS, WORDS, st.integers(0, 255)), max_size=60)


def columns(keys: list[tuple[int, int, int]]) -> list[Any]:
    return [
        np.array([one[at] for one in keys], dtype)
        for at, dtype in enumerate((np.uint64, np.uint64, np.uint8))
    ]


@given(batches=st.lists(KEYS, max_size=6), asked=KEYS)
def test_an_index_numbers_keys_as_a_dict_would(
    batches: list[list[tuple[int, int, int]]], asked: list[tuple[int, int, int]]
) -> None:
    index = KeyIndex(np.uint64, np.uint64, np.uint8)
    known: dict[tuple[int, int, int], int] = {}
    for batch in batches:
        expected = [known.setdefault(key, len(known)) for key in batch]
        assert index.intern(*columns(batch)).tolist() == expected
    assert len(index) == len(known)
    held = zip(*(index.column(at).tolist() for at in range(3)), strict=True)
    assert list(held) == list(known)
    for keys in [asked, *batches]:
        assert index.find(*columns(keys)).tolist() == [known.get(key, -1) for key in keys]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=40), max_size=5),
    st.sampled_from([1, 7, 1 << 15]),
)
def test_an_index_numbers_some_of_the_keys_it_is_given_and_finds_the_others(
    batches: list[list[tuple[int, bool]]], block: int
) -> None:
    """Also those that the same batch brought, wherever they stand in it."""
    index, known = KeyIndex(np.uint64), dict[int, int]()
    with patch.object(keyindex, "_BLOCK", block):
        for batch in batches:
            for key, new in batch:
                if new:
                    known.setdefault(key, len(known))
            keys = np.array([key for key, _ in batch], np.uint64)
            where = np.array([new for _, new in batch], np.bool_)
            expected = [known.get(key, -1) for key, _ in batch]
            assert index.intern(keys, where=where).tolist() == expected
            assert len(index) == len(known)


def test_an_index_of_many_keys_grows_and_keeps_their_numbers() -> None:
    keys = np.random.default_rng(3).integers(0, 150_000, 400_000).astype(np.uint64)
    index = KeyIndex(np.uint64)
    ids = index.intern(keys)
    _, first = np.unique(keys, return_index=True)
    assert index.column(0).tolist() == keys[np.sort(first)].tolist()
    assert (index.column(0)[ids] == keys).all()
    assert (index.find(keys) == ids).all()
    assert index.find(np.array([200_000], np.uint64)).tolist() == [-1]


@given(
    st.lists(st.integers(0, 2000), max_size=2000, unique=True),
    st.sampled_from([1, 50, 4096]),
    st.lists(st.integers(0, 2000), max_size=50),
    st.sampled_from([1, 7, 1 << 15]),
)
def test_an_index_made_at_once_finds_its_keys_however_they_crowd(
    keys: list[int], homes: int, more: list[int], block: int
) -> None:
    """All homes are among the last so many slots: what does not fit begins anew at the front. Of
    how many at a time does not matter."""

    class Crowded(KeyIndex):
        def _home(self, keys: list[Any]) -> Any:
            return (len(self._slots) - 1 - keys[0] % homes).astype(np.int64)

    with patch.object(keyindex, "_BLOCK", block):
        index = Crowded.of(np.array(keys, np.uint64))
    known = {key: number for number, key in enumerate(keys)}
    assert index.find(np.arange(2001, dtype=np.uint64)).tolist() == [
        known.get(key, -1) for key in range(2001)
    ]
    expected = [known.setdefault(key, len(known)) for key in more]
    assert index.intern(np.array(more, np.uint64)).tolist() == expected


@given(st.lists(st.integers(-5, 5), max_size=30))
def test_distinct_is_sorted_and_has_each_value_once(values: list[int]) -> None:
    assert distinct(np.array(values, np.int64)).tolist() == sorted(set(values))


def prefix(family: int, levels: list[int]) -> tuple[int, int]:
    """(address, length): nested by two bits a level in IPv4, by eleven in IPv6."""
    value, length = ((0xFFFF << 32) | (11 << 24), 104) if family == 4 else (0x2600 << 112, 12)
    for level in levels:
        length = min(length + (2 if family == 4 else 11), 128)
        value |= level << (128 - length)
    return value, length


PREFIX = st.builds(
    prefix, st.sampled_from([4, 6]), st.lists(st.sampled_from([0, 0, 1]), max_size=12)
)


def covers(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    shift = 128 - outer[1]
    return outer[1] <= inner[1] and outer[0] >> shift == inner[0] >> shift


def split(prefixes: list[tuple[int, int]]) -> tuple[Any, Any, Any]:
    return (
        np.array([one >> 64 for one, _ in prefixes], np.uint64),
        np.array([one & (1 << 64) - 1 for one, _ in prefixes], np.uint64),
        np.array([length for _, length in prefixes], np.uint8),
    )


@settings(deadline=None)
@given(
    universe=st.lists(PREFIX, min_size=1, max_size=40, unique=True),
    choices=st.lists(st.sets(st.integers(0, 39)), min_size=1, max_size=5),
    addresses=st.lists(PREFIX, max_size=10),
)
def test_a_forest_that_changes_has_the_parents_subtrees_and_matches_of_plain_loops(
    universe: list[tuple[int, int]],
    choices: list[set[int]],
    addresses: list[tuple[int, int]],
) -> None:
    by_id, tree, inside = split(universe), PrefixTree(), set[int]()
    for number, choice in enumerate(choices):
        wanted = {one for one in choice if one < len(universe)}
        if number == 0:
            tree.build(np.array(sorted(wanted, reverse=True), np.int32), by_id)
        else:
            added, removed = sorted(wanted - inside), sorted(inside - wanted)
            tree.change(np.array(added, np.int32), np.array(removed, np.int32), by_id)
        inside = wanted
        order = sorted(inside, key=lambda one: universe[one])
        assert tree.order.tolist() == order
        for one in order:
            around = [two for two in order if two != one and covers(universe[two], universe[one])]
            parent = max(around, key=lambda two: universe[two][1], default=-1)
            assert tree.parent[one] == parent
            below = [two for two in order if covers(universe[one], universe[two])]
            assert tree.below(np.array([one], np.int32)).tolist() == below
        some = np.array(order[::2], np.int32)
        expected = [
            one for one in order if any(covers(universe[two], universe[one]) for two in some)
        ]
        assert tree.below(some).tolist() == expected
        asked = addresses + [(value | 1, 128) for value, _ in universe]
        found = tree.match(*split(asked)).tolist()
        for (value, length), at in zip(asked, found, strict=True):
            around = [one for one in order if covers(universe[one], (value, length))]
            assert at == max(around, key=lambda one: universe[one][1], default=-1)


@settings(deadline=None)
@given(
    universe=st.lists(PREFIX, min_size=1, max_size=30, unique=True),
    choices=st.lists(st.sets(st.integers(0, 29)), min_size=2, max_size=6),
    since=st.integers(0, 5),
)
def test_what_lies_in_no_prefix_that_came_or_went_keeps_its_longest_match(
    universe: list[tuple[int, int]], choices: list[set[int]], since: int
) -> None:
    by_id, tree, inside = split(universe), PrefixTree(), set[int]()
    addresses = [(value | 1, 128) for value, _ in universe]
    hi, lo, _ = split(addresses)
    tree.build(np.empty(0, np.int32), by_id)
    seen = [(tree.version, tree.match(hi, lo).tolist())]
    for choice in choices:
        wanted = {one for one in choice if one < len(universe)}
        added, removed = sorted(wanted - inside), sorted(inside - wanted)
        tree.change(np.array(added, np.int32), np.array(removed, np.int32), by_id)
        inside = wanted
        seen.append((tree.version, tree.match(hi, lo).tolist()))
    version, before = seen[min(since, len(seen) - 1)]
    changes = tree.changed_since(version)
    assert (changes is None) == (version == tree.version)
    changed = [] if changes is None else list(zip(*(one.tolist() for one in changes), strict=True))
    for number, address in enumerate(addresses):
        if before[number] != seen[-1][1][number]:
            assert any(covers((hi << 64 | lo, length), address) for hi, lo, length in changed)
    tree.build(np.array(sorted(inside), np.int32), by_id)
    assert tree.changed_since(version) is None  # all may be different


PLACE = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@given(one=PLACE, other=PLACE)
def test_distance_is_the_great_circle_to_a_kilometre(
    one: tuple[float, float], other: tuple[float, float]
) -> None:
    """Beside haversine, which loses its precision only near the antipodes."""
    lat, lon = np.radians([one[0], other[0]]), np.radians([one[1], other[1]])
    chord = (
        np.sin((lat[1] - lat[0]) / 2) ** 2
        + np.cos(lat[0]) * np.cos(lat[1]) * np.sin((lon[1] - lon[0]) / 2) ** 2
    )
    haversine = 2 * 6371.0088 * np.arcsin(np.sqrt(min(1.0, chord)))
    a, b = (points(np.array([lat]), np.array([lon])) for lat, lon in (one, other))
    km = int(distance_km(a, b)[0])
    assert abs(km + 0.5 - haversine) <= 0.502
    assert km == distance_km(b, a)[0]
    assert distance_km(a, a)[0] == 0


def test_known_distances() -> None:
    """Frankfurt to New York, London to Sydney."""
    a = points(np.array([50.1109, 51.5074]), np.array([8.6821, -0.1278]))
    b = points(np.array([40.7128, -33.8688]), np.array([-74.0060, 151.2093]))
    assert distance_km(a, b).tolist() == [6202, 16993]


ENTRY = st.tuples(
    st.integers(0, 2), st.integers(0, 2), st.integers(0, 3), st.integers(-1, 3),
    st.integers(-1, 2), st.integers(-1, 2), st.integers(0, 2),
)  # fmt: skip


@given(st.lists(st.lists(ENTRY, min_size=1, max_size=5), min_size=1, max_size=40))
def test_a_ranking_has_the_same_id_if_and_only_if_it_says_the_same(
    rankings: list[list[tuple[int, ...]]],
) -> None:
    names = np.array([0x9E37, 0x79B9, 0x7F4A], np.uint64) * np.uint64(0xD1B54A32D192ED03)
    flat = np.array([entry for ranking in rankings for entry in ranking], np.int64)
    site, tier, hops, med, rtt, km, last = flat.T
    small = (hops.astype(np.int32), med, rtt.astype(np.int32), km.astype(np.int32))
    word = entry_words(names[site], *small, last.astype(np.uint8))
    count = np.array([len(ranking) for ranking in rankings])
    ids = ranking_ids(word, tier.astype(np.uint8), np.cumsum(count) - count, count).tolist()
    by_id: dict[int, list[tuple[int, ...]]] = {}
    for one, ranking in zip(ids, rankings, strict=True):
        assert by_id.setdefault(one, ranking) == ranking
    assert len(by_id) == len({tuple(ranking) for ranking in rankings})
