"""A session that flaps, through a whole cell: whom it serves, and what is said of it."""

from itertools import pairwise

import numpy as np

from pipeline.effects import Effects
from pipeline.reasons import Reason
from schemas.registry import STEERING_GROUPS, STEERING_PREFIXES
from tests.cell_world import nets
from tests.unit.test_cell import Plane, plane, told, topics

__all__ = ["plane"]
PEER = "192.0.2.1"


def flap(plane: Plane, site: str, times: int = 1, *, hops: int = 1) -> list[Effects]:
    """Down, up again in the next second, and half a minute of peace."""
    effects = []
    for _ in range(times):
        plane.log.session(site, "PeerDown")
        effects += plane.wait(1)
        plane.log.session(site, "PeerUp")
        for net in nets(site[:2]):
            plane.log.route(site, net, hops=hops)
        effects += plane.wait(30)
    return effects


def test_what_flaps_serves_nobody_while_another_can(plane: Plane) -> None:
    flap(plane, "eu-s0")
    assert list(plane.serving("eu")) == ["eu-s0"]
    effects = flap(plane, "eu-s0")
    assert list(plane.serving("eu")) == ["eu-s1"]
    assert told(effects, "session", f"eu-s0|{PEER}") == [("TRUSTED", "DAMPED", Reason.ROUTE_DAMPED)]
    for group in plane.groups("eu"):
        assert group["sites"][-1]["site"] == "eu-s0"
        passed = {(one["site"], one["reason"]) for one in group["passed_over"]}
        assert ("eu-s0", Reason.ROUTE_DAMPED) in passed
        assert {site for site, _ in passed} == {"eu-s0"}


def test_l8_what_is_damped_costs_more_than_all_before_it(plane: Plane) -> None:
    """The assignment relies on costs that do not decrease along a ranking."""
    flap(plane, "eu-s0", 2)
    groups = plane.cell.regions[0].shares.groups
    assert groups.last.any()
    for first, end in pairwise(groups.offsets.tolist()):
        assert (np.diff(groups.cost[first:end]) >= 0).all()


def test_its_next_fall_moves_nobody(plane: Plane) -> None:
    flap(plane, "eu-s0", 3)
    before = plane.serving("eu")
    plane.log.session("eu-s0", "PeerDown")
    plane.wait(1)
    assert plane.serving("eu") == before


def test_after_six_quiet_minutes_it_is_nearest_again_and_the_guard_lets_it(plane: Plane) -> None:
    flap(plane, "eu-s0", 3)
    effects = []
    for _ in range(36):
        plane.report()
        effects.append(plane.cut(after_ms=10_000))
    assert list(plane.serving("eu")) == ["eu-s0"]
    assert told(effects, "session", f"eu-s0|{PEER}") == [("DAMPED", "TRUSTED", Reason.RELEASED)]
    assert not told(effects, "table", "eu")
    # L10: and nothing more comes of it.
    changed = {topic for one in plane.wait(5) for topic in topics(one)}
    assert not changed & {STEERING_PREFIXES.name, STEERING_GROUPS.name}


def test_where_all_flap_they_serve_as_if_none_did(plane: Plane) -> None:
    sites = [f"eu-s{number}" for number in range(6)]
    before = plane.serving("eu")
    for hops, site in enumerate(sites, 1):
        flap(plane, site, 3, hops=hops)
    for hops, site in enumerate(sites, 1):
        flap(plane, site, hops=hops)
    assert plane.serving("eu") == before
    for group in plane.groups("eu"):
        assert [one["site"] for one in group["sites"]] == sites[: len(group["sites"])]


def test_a_prefix_that_only_what_flaps_announces_goes_where_its_cover_does(plane: Plane) -> None:
    """Longer prefixes from within a network, and it from elsewhere: an embedded site."""
    inner = nets("eu")[0].replace("/16", "/24")
    plane.log.route("eu-s4", inner)
    plane.wait(6)
    assert "eu-s4" in plane.serving("eu")
    flap(plane, "eu-s4", 3, hops=5)
    plane.log.route("eu-s4", inner)
    plane.wait(6)
    assert "eu-s4" not in plane.serving("eu")


def test_routes_that_flap_by_themselves_are_told_of_by_session(plane: Plane) -> None:
    effects = []
    for _ in range(7):
        plane.log.route("eu-s0", nets("eu")[0], action="WITHDRAW")
        effects += plane.wait(1)
        plane.log.route("eu-s0", nets("eu")[0], hops=1)
        effects += plane.wait(1)
    assert told(effects, "session", f"eu-s0|{PEER}") == [
        ("TRUSTED", "SOME_DAMPED", Reason.ROUTE_DAMPED)
    ]
    plane.wait(6)
    assert set(plane.serving("eu")) == {"eu-s0", "eu-s1"}
    plane.report()
    effects = [plane.cut(after_ms=50 * 60_000)]
    assert told(effects, "session", f"eu-s0|{PEER}") == [
        ("SOME_DAMPED", "TRUSTED", Reason.RELEASED)
    ]
