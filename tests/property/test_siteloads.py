"""What is told of a site's load: what moved by a share worth telling, and nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decide.assignment import CLASSES, NO_ROOM
from pipeline.decide.shares import SiteLoad
from pipeline.decide.siteloads import SiteLoads, Standing, published_price
from pipeline.decide.sites import Load
from pipeline.wire.decode import decode
from pipeline.wire.tables import NOWHERE

SITES, SHIFT = 4, 100
_BPS = st.integers(0, 2_000)
_SITE = st.tuples(
    st.booleans(),
    st.sampled_from(Load),
    _BPS,
    st.sampled_from([0, 0, 5, 900]),
    st.lists(_BPS, min_size=CLASSES, max_size=CLASSES),
    st.lists(st.sampled_from([0, 0, 1_000, NO_ROOM]), min_size=CLASSES, max_size=CLASSES),
)
_WORLD = st.lists(_SITE, min_size=1, max_size=SITES)
One = tuple[bool, Load, int, int, list[int], list[int]]


def standing(sites: list[One]) -> Standing:
    known, state, target, overflow, load, price = zip(*sites, strict=True)
    return Standing(
        np.array(known),
        np.array(state, np.uint8),
        np.array(target, np.int64),
        np.array(overflow, np.int64),
        np.array(load, np.int64),
        np.array(price, np.int64),
    )


def news(told: One | None, now: One) -> bool:
    """The rule, of one site."""
    if told is None:
        return True
    least = max(max(told[2], now[2]) // 10_000 * SHIFT, 1)
    pairs = [(told[2], now[2]), (told[3], now[3]), *zip(told[4], now[4], strict=True)]
    if any(abs(one - other) >= least for one, other in pairs):
        return True
    return (told[1], told[5], told[3] > 0) != (now[1], now[5], now[3] > 0)


@given(st.lists(_WORLD, min_size=1, max_size=6))
def test_told_is_what_says_something_new(worlds: list[list[One]]) -> None:
    loads, told = SiteLoads(), dict[int, One]()
    worlds = [[*world, *worlds[-1][len(world) :]] for world in sorted(worlds, key=len)]
    for world in worlds:
        said, gone = loads.take(standing(world), SHIFT)
        expected = [at for at, one in enumerate(world) if one[0] and news(told.get(at), one)]
        assert said.tolist() == expected
        assert gone.tolist() == [at for at in sorted(told) if not world[at][0]]
        told |= {at: world[at] for at in expected}
        for at in gone.tolist():
            del told[at]
        again, left = loads.take(standing(world), SHIFT)
        assert not len(again) + len(left)  # L10
        loads = SiteLoads.from_bytes(bytes(loads.to_bytes()))


@given(_SITE)
def test_a_record_says_what_was_told(one: One) -> None:
    loads = SiteLoads()
    loads.take(standing([(True, *one[1:])]), SHIFT)
    ((name, value),) = loads.records(np.array([0]), ["ams"], ["eu"])
    record, fields = decode(value)
    assert (record, name) == ("SiteLoad", "ams")
    assert fields == {
        "region": "eu",
        "site": "ams",
        "state": one[1].name,
        "target_bps": one[2],
        "load_bps": one[4],
        "overflow_bps": one[3],
        "price": [NOWHERE if price == NO_ROOM else price for price in one[5]],
    }


def test_a_plan_is_told_in_bits_a_second() -> None:
    load = SiteLoad.none(2)
    load.load[1], load.overflow[1], load.price[1] = (70, 0, 30), 50, (0, NO_ROOM, 3)
    now = Standing.of(np.zeros(3, np.uint8), np.array([9, 9, 9]))
    now.put(np.array([1]), load)
    assert now.known.tolist() == [False, True, False]
    assert now.load_bps[1].tolist() == [7, 0, 3]  # kbit/s x ten-thousandths
    assert now.overflow_bps[1] == 5
    assert published_price(now.price[1]).tolist() == [0, NOWHERE, 3]
