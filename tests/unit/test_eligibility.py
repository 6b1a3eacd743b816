"""Who may serve what: every status and Reason, the start of a region, and its panic."""

from dataclasses import replace

import numpy as np

from pipeline.decide.eligibility import (
    CLASS_NOT_SERVED,
    ELIGIBLE,
    NO_CAPACITY,
    REASON_OF_STATUS,
    Appliances,
    decide_eligibility,
)
from pipeline.decide.seats import apportion
from pipeline.decide.weights import Members, Spread, Weigher
from pipeline.reasons import Reason

VOD, LIVE, ALL = 1, 2, 7


def asked(rows: list[tuple[int, int, int]], *, sites: int = 2, **changes: object) -> Appliances:
    """`rows`: (site, serves, usable_bps) of one region's appliances, each of 10 bps."""
    site, serves, usable = zip(*rows, strict=True)
    base = Appliances(
        site=np.array(site, np.int32),
        serves=np.array(serves, np.uint8),
        usable_bps=np.array(usable, np.int64),
        capacity_bps=np.full(len(rows), 10, np.int64),
        withdrawn=np.zeros(len(rows), bool),
        heard=np.ones(len(rows), bool),
        site_region=np.zeros(sites, np.int32),
        link_bps=np.full(sites, -1, np.int64),
        admitted=np.full(sites, 10_000, np.int64),
        regions=1,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_capacity_is_that_of_the_appliances_of_the_class() -> None:
    found = decide_eligibility(asked([(0, VOD, 5), (0, VOD | LIVE, 7), (1, ALL, 10)]))
    assert found.class_bps.tolist() == [[12, 7, 0], [10, 10, 10]]
    assert found.site_bps.tolist() == [12, 10]
    assert found.status.tolist() == [[ELIGIBLE, ELIGIBLE, CLASS_NOT_SERVED], [ELIGIBLE] * 3]
    assert REASON_OF_STATUS[CLASS_NOT_SERVED] is Reason.CLASS_NOT_SERVED


def test_a_site_whose_appliances_cannot_is_without_capacity() -> None:
    found = decide_eligibility(asked([(0, ALL, 0), (1, ALL, 10)]))
    assert found.status.tolist() == [[NO_CAPACITY] * 3, [ELIGIBLE] * 3]
    assert REASON_OF_STATUS[NO_CAPACITY] is Reason.NO_CAPACITY


def test_links_limit_a_site_and_a_closed_link_closes_it() -> None:
    rows = [(0, ALL, 10), (1, ALL, 10)]
    assert decide_eligibility(asked(rows, link_bps=np.array([6, -1]))).site_bps.tolist() == [6, 10]
    closed = decide_eligibility(asked(rows, link_bps=np.array([0, -1])))
    assert closed.status[0].tolist() == [NO_CAPACITY] * 3


def test_l7_a_region_that_looks_dead_is_presumed_alive_but_for_what_withdrew() -> None:
    rows = [(0, ALL, 0), (0, ALL, 0), (1, ALL, 0)]
    found = decide_eligibility(asked(rows, withdrawn=np.array([False, True, True])))
    assert found.status.tolist() == [[ELIGIBLE] * 3, [NO_CAPACITY] * 3]
    assert found.panic.tolist() == [[True] * 3, [False] * 3]
    assert found.site_bps.tolist() == [10, 0]


def test_another_regions_health_does_not_hide_a_dead_one() -> None:
    rows = [(0, ALL, 0), (1, ALL, 10)]
    found = decide_eligibility(asked(rows, site_region=np.array([0, 1], np.int32), regions=2))
    assert found.panic.any(axis=1).tolist() == [True, False]


def test_a_part_of_a_region_that_fell_silent_is_believed_to_be_down() -> None:
    found = decide_eligibility(asked([(0, ALL, 0), (1, ALL, 10)]))
    assert not found.panic.any()


def test_while_most_of_a_region_never_reported_the_rest_is_presumed_well() -> None:
    rows = [(0, ALL, 10), (1, ALL, 0), (1, ALL, 0)]
    starting = asked(rows, heard=np.array([True, False, False]))
    assert decide_eligibility(starting).status.tolist() == [[ELIGIBLE] * 3] * 2
    started = asked(rows, heard=np.array([True, True, False]))
    assert decide_eligibility(started).status[1].tolist() == [NO_CAPACITY] * 3


def members(usable: list[int], **changes: object) -> Members:
    size = len(usable)
    base = Members(
        names=[f"a{9 - i}" for i in range(size)],
        site=np.zeros(size, np.int32),
        capacity_bps=np.arange(1, size + 1, dtype=np.int64) * 100,
        usable_bps=np.array(usable, np.int64),
        healthy=np.array(usable) > 0,
        withdrawn=np.zeros(size, bool),
        load=np.full(size, -1, np.int64),
        mark=np.zeros(size, np.int64),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_members_stand_in_the_order_of_their_names() -> None:
    [found] = Weigher().weigh(members([100, 300]), 1, 100, 0.5)
    assert found.members == (1, 0)
    assert found.weights == (7_500, 2_500)


def test_panic_spreads_by_inventory_over_what_did_not_withdraw() -> None:
    asked_ = members([0, 0, 300], withdrawn=np.array([False, False, False]))
    [found] = Weigher().weigh(asked_, 1, 100, 0.5)
    assert found.spread is Spread.PANIC
    assert found.weights == tuple(apportion([300, 200, 100]))
    withdrawn = members([0, 0, 300, 0], withdrawn=np.array([True, False, False, False]))
    [found] = Weigher().weigh(withdrawn, 1, 100, 0.5)
    assert (found.healthy, found.counted) == (1, 3)
    assert found.weights == tuple(apportion([400, 300, 200, 0]))


def test_what_withdrew_does_not_make_the_others_panic() -> None:
    asked_ = members([0, 0, 300], withdrawn=np.array([True, True, False]))
    [found] = Weigher().weigh(asked_, 1, 100, 0.5)
    assert found.spread is Spread.BY_HEALTH
    assert found.weights == (10_000, 0, 0)


def test_l7_the_last_good_weights_stay_when_all_withdrew() -> None:
    weigher = Weigher()
    [good] = weigher.weigh(members([100, 300]), 1, 100, 0.5)
    gone = members([0, 0], withdrawn=np.ones(2, bool), mark=np.ones(2, np.int64))
    [kept] = weigher.weigh(gone, 1, 100, 0.5)
    assert (kept.weights, kept.spread) == (good.weights, Spread.LAST_GOOD)


def test_the_last_good_weights_of_who_is_left_are_scaled_up() -> None:
    weigher = Weigher()
    weigher.weigh(members([100, 100, 200]), 1, 100, 0.5)
    gone = members([0, 0, 0], withdrawn=np.ones(3, bool), site=np.array([0, 0, -1], np.int32))
    [kept] = weigher.weigh(gone, 2, 100, 0.5)
    assert kept.weights == (5_000, 5_000)


def test_noise_below_the_least_shift_is_not_weighed_again() -> None:
    weigher = Weigher()
    weigher.weigh(members([100_000, 300_000]), 1, 100, 0.5)
    assert not weigher.weigh(members([100_000, 302_000]), 1, 100, 0.5)
    assert weigher.weigh(members([100_000, 304_000]), 1, 100, 0.5)
    assert not weigher.weigh(members([100_000, 302_000]), 1, 100, 0.5)
    assert weigher.weigh(members([100_000, 302_000], mark=np.array([0, 1])), 1, 100, 0.5)
