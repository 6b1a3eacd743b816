"""The links section: smoothed use, and the capacity a site's links have together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reasons import Noted, Refusal
from pipeline.state.links import ROUNDS_MAX, Links
from pipeline.wire.rows import Account
from tests.frames import NOW_MS, fleet_of, fold_fleet, fold_into, link_sample, region, site

HOUR_MS = 3_600_000
FLEET = fleet_of(region(), site("s0", {"l0": 1000, "l1": 500}), site("s1", {"l2": 70}), site("s2"))


def fold(links: Links, *samples: tuple[str, dict[str, object]]) -> Account:
    return fold_into(links, "traffic.links", samples, FLEET)


def test_samples_are_smoothed_in_the_order_of_the_log() -> None:
    links = Links()
    fold(links, *(link_sample("l0", NOW_MS + t, used_bps=u) for t, u in ((-2, 100), (-1, 500))))
    assert links.used_bps.tolist() == [200, 0, 0]
    fold(links, link_sample("l0", used_bps=100, drops=7))
    assert links.used_bps.tolist() == [175, 0, 0]
    assert (links.drops[0], links.dropped[0], links.last_at_ms[0]) == (7, 7, NOW_MS)


def test_older_and_repeated_samples_are_counted_and_change_nothing() -> None:
    links = Links()
    account = fold(
        links,
        link_sample("l0", NOW_MS - 5, drops=3),
        link_sample("l0", NOW_MS - 9, drops=5, used_bps=0),
        link_sample("l0", NOW_MS - 5, drops=3),
    )
    assert account.notes == {Noted.REORDERED: 1, Noted.DUPLICATE: 1}
    assert (links.used_bps[0], links.dropped[0]) == (100, 3)
    many = [link_sample("l1", NOW_MS - 999 + n, drops=1) for n in range(ROUNDS_MAX + 5)]
    assert fold(links, *many).notes == {Noted.LATE: 5}


def test_a_sites_link_capacity_is_the_sum_of_what_is_believed_of_each() -> None:
    links = Links()
    assert links.site_link_capacity_bps(FLEET).tolist() == [1500, 70, -1]
    fold(
        links,
        link_sample("l0", capacity_bps=400, used_bps=0),
        link_sample("l1", capacity_bps=0, used_bps=0),
        link_sample("l2", capacity_bps=900),
    )
    assert links.site_link_capacity_bps(FLEET).tolist() == [900, 70, -1]


def test_the_fullest_link_says_how_much_more_of_the_same_mixture_fits() -> None:
    """900 leave: 600 by a link that is full, 300 by one that has room for as much again."""
    fleet = fleet_of(region(), site("s0", {"l0": 1000, "l1": 600}))
    links = Links()
    cut = [link_sample("l0", capacity_bps=600, used_bps=600), link_sample("l1", used_bps=300)]
    fold_into(links, "traffic.links", cut, fleet)
    assert links.site_link_capacity_bps(fleet).tolist() == [900]
    links = Links()
    half = [link_sample("l0", used_bps=500), link_sample("l1", used_bps=150)]
    fold_into(links, "traffic.links", half, fleet)
    assert links.site_link_capacity_bps(fleet).tolist() == [1300]
    links = Links()
    idle = [link_sample("l0", used_bps=100), link_sample("l1", used_bps=6)]
    fold_into(links, "traffic.links", idle, fleet)
    assert links.site_link_capacity_bps(fleet).tolist() == [1600]


@given(st.lists(st.tuples(st.integers(1, 10**13), st.integers(0, 2 * 10**13)), min_size=1))
def test_site_links_carry_what_leaves_by_them_and_no_more_than_their_sum(
    rows: list[tuple[int, int]],
) -> None:
    fleet = fleet_of(region(), site("s0", {f"l{n}": room for n, (room, _) in enumerate(rows)}))
    links = Links()
    told = [link_sample(f"l{n}", used_bps=used, capacity_bps=0) for n, (_, used) in enumerate(rows)]
    fold_into(links, "traffic.links", told, fleet)
    [found] = links.site_link_capacity_bps(fleet).tolist()
    room, sent = sum(room for room, _ in rows), sum(min(room, used) for room, used in rows)
    assert sent <= found <= room


def test_a_link_that_is_gone_is_unknown_and_adds_nothing() -> None:
    fleet = fleet_of(region(), site("s0", {"l0": 1000, "l1": 500}))
    links = Links()
    fold_fleet(fleet, site("s0", {"l1": 500}), first_offset=9)
    account = fold_into(links, "traffic.links", [link_sample("l0")], fleet)
    assert account.refused["traffic.links"][0].reason is Refusal.UNKNOWN_LINK
    assert links.site_link_capacity_bps(fleet).tolist() == [500]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"link": ""}, Refusal.BAD_ID),
        ({"link": "l9"}, Refusal.UNKNOWN_LINK),
        ({"used_bps": -1}, Refusal.OUT_OF_RANGE),
        ({"capacity_bps": 10**15}, Refusal.OUT_OF_RANGE),
        ({"drops": -7}, Refusal.OUT_OF_RANGE),
        ({"at_ms": NOW_MS + HOUR_MS}, Refusal.FROM_THE_FUTURE),
        ({"at_ms": NOW_MS - HOUR_MS}, Refusal.TOO_OLD),
    ],
)
def test_a_bad_sample_is_refused_by_itself(fields: dict[str, object], reason: Refusal) -> None:
    links = Links()
    name, bad = link_sample("l0")
    account = fold(links, (name, {**bad, **fields}), link_sample("l1"))
    assert [(one.offset, one.reason) for one in account.refused["traffic.links"]] == [(0, reason)]
    assert links.used_bps.tolist() == [0, 100, 0]


def test_no_samples_change_nothing() -> None:
    links = Links()
    assert fold(links).rows.total() == 0
    assert links.used_bps.tolist() == [0, 0, 0]
