"""What flaps: what adds to a penalty and what does not, and how long it counts."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.config import DampingConfig, SteeringConfig
from pipeline.reasons import Noted
from pipeline.state import routes as routes_module
from pipeline.state.damping import Turned
from pipeline.state.routebytes import routes_from_bytes, routes_to_bytes
from pipeline.state.routes import Routes
from pipeline.state.sessionroutes import damped_until_ms, session_name
from pipeline.wire.address import parse_prefix, prefix_columns
from pipeline.wire.rows import Account
from tests.frames import NOW_MS, topic_rows
from tests.unit.test_state_routes import route, session

MINUTE = 60_000
CONFIG = SteeringConfig(
    damping=DampingConfig(
        session_suppress=2000,
        session_half_life_ms=5 * MINUTE,
        session_penalty_max=12_000,
        route_half_life_ms=15 * MINUTE,
    )
)
UP, DOWN, AGAIN = session("PeerUp"), session("PeerDown"), route()
GONE = route(action="WITHDRAW")


class Feed:
    """Routes, a cut of some records at a time."""

    def __init__(self) -> None:
        self.routes, self.now_ms, self.offset = Routes(), NOW_MS, 0
        self.account = Account()

    def cut(self, *records: tuple[str, dict[str, Any]], after_ms: int = 1000) -> Turned:
        self.now_ms += after_ms
        self.released = self.routes.release(self.now_ms)
        rows = topic_rows("bgp.routes", records, self.offset)
        self.offset += len(records)
        self.account.arrive(rows)
        return self.routes.fold(rows, self.now_ms, CONFIG, self.account)

    def flap(self, after_ms: int = MINUTE) -> Turned:
        turned = self.cut(DOWN, after_ms=after_ms)
        self.cut(UP, AGAIN)
        return turned

    @property
    def damped(self) -> list[bool]:
        damped: list[bool] = self.routes.all_rows().damped.tolist()
        return damped


@pytest.fixture
def feed() -> Feed:
    feed = Feed()
    feed.cut(UP, AGAIN)
    return feed


def test_the_third_fall_within_minutes_damps_what_comes_back(feed: Feed) -> None:
    assert not feed.flap()
    assert not feed.flap()
    assert feed.damped == [False]
    assert feed.flap().sessions.tolist() == [0]
    assert feed.damped == [True]
    assert session_name(feed.routes, 0) == "fra1|192.0.2.1"


def test_what_is_damped_is_withdrawn_at_once(feed: Feed) -> None:
    for _ in range(4):
        feed.flap()
    feed.cut(DOWN)
    assert not len(feed.routes)


def test_maintenance_a_refresh_and_the_end_of_a_rib_are_no_flaps(feed: Feed) -> None:
    for _ in range(8):
        feed.cut(UP, AGAIN, session("EndOfRib"))
    feed.cut(DOWN)
    for _ in range(8):
        feed.cut(DOWN)  # it is down already
    feed.cut(UP, AGAIN)
    assert feed.routes.damping.sessions.get(0)[0] == 1000
    assert not feed.routes.damping.any


def test_a_session_that_comes_up_for_the_first_time_has_no_penalty() -> None:
    feed = Feed()
    for _ in range(5):
        feed.cut(DOWN)
    feed.cut(UP, AGAIN)
    assert not len(feed.routes.damping.sessions)


def test_falls_count_in_the_order_of_the_log(feed: Feed) -> None:
    turned = feed.cut(DOWN, DOWN, UP, AGAIN, DOWN, UP, DOWN, AGAIN, DOWN, UP, AGAIN)
    assert feed.routes.damping.sessions.get(0)[0] == 3000
    assert turned.sessions.tolist() == [0]
    assert feed.damped == [True]


def test_it_is_believed_again_when_its_penalty_is_below_reuse_and_not_before(feed: Feed) -> None:
    for _ in range(3):
        feed.flap()
    until_ms = feed.routes.damping.sessions.get(0)[1]
    there, elsewhere = (
        prefix_columns(pl.Series([parse_prefix(one)])) for one in ("11.0.0.0/24", "11.0.9.0/24")
    )
    assert damped_until_ms(feed.routes, "fra1", "192.0.2.1", there, 0) == until_ms
    assert damped_until_ms(feed.routes, "fra1", "192.0.2.1", elsewhere, 0) == 0
    assert damped_until_ms(feed.routes, "fra1", "192.0.2.9", there, 0) == 0
    assert 9 * MINUTE < until_ms - feed.now_ms < 10 * MINUTE
    version = feed.routes.version
    feed.cut(after_ms=until_ms - feed.now_ms - 1)
    assert not feed.released and feed.damped == [True]
    feed.cut(after_ms=1)
    assert feed.released.sessions.tolist() == [0] and feed.damped == [False]
    assert feed.routes.changes_since(version).tolist() == [0]


def test_routes_that_come_back_in_the_cut_of_the_fall_are_looked_at_again(feed: Feed) -> None:
    feed.flap()
    feed.flap()
    version = feed.routes.version
    feed.cut(DOWN, UP, AGAIN)
    assert feed.damped == [True]
    assert feed.routes.changes_since(version).tolist() == [0]


def test_a_route_is_damped_by_its_own_flaps_alone(feed: Feed) -> None:
    feed.cut(route("11.0.1.0/24"))
    for _ in range(6):
        turned = feed.cut(GONE)
        feed.cut(AGAIN)
    assert turned.routes.tolist() == []
    assert feed.cut(GONE).routes.tolist() == [0]
    feed.cut(AGAIN)
    assert feed.damped == [True, False]
    assert not len(feed.routes.damping.sessions)


def test_other_attributes_count_half_as_much(feed: Feed) -> None:
    for number in range(13):
        turned = feed.cut(route(as_path_len=3 + number % 2), after_ms=10)
    assert turned.routes.tolist() == [0]
    assert feed.damped == [True]
    assert feed.routes.damping.routes.get(0)[0] == pytest.approx(6500, abs=20)


def test_what_goes_with_its_session_or_was_never_there_is_not_the_routes_own_flap(
    feed: Feed,
) -> None:
    feed.cut(DOWN, GONE)
    feed.cut(GONE)
    feed.cut(UP, AGAIN, AGAIN)
    assert not len(feed.routes.damping.routes)
    assert feed.account.notes[Noted.DUPLICATE] == 1


def test_a_penalty_survives_renumbering_while_its_route_is_withdrawn(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"peer": "192.0.2.2"}
    feed.cut(session("PeerUp", **other), *(route(f"12.0.{n}.0/24", **other) for n in range(20)))
    for _ in range(7):
        feed.cut(AGAIN)
        feed.cut(GONE)
    feed.cut(route("13.0.0.0/24"))
    monkeypatch.setattr(routes_module, "_SPARE", 0)
    feed.cut(session("PeerDown", **other))
    assert feed.routes.generation == 1
    feed.cut(AGAIN)
    there, beside = (
        prefix_columns(pl.Series([parse_prefix(one)])) for one in ("11.0.0.0/24", "13.0.0.0/24")
    )
    assert damped_until_ms(feed.routes, "fra1", "192.0.2.1", there, 0)
    assert not damped_until_ms(feed.routes, "fra1", "192.0.2.1", beside, 0)


def test_fewer_than_are_worth_it_are_not_kept_when_they_have_decayed(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.state.penalties._FEW", 0)
    feed.cut(GONE)
    feed.cut(AGAIN, route("11.0.1.0/24"), after_ms=60 * MINUTE)
    feed.cut(route("11.0.1.0/24", action="WITHDRAW"))
    assert feed.routes.damping.routes.id.tolist() == [1]


def test_a_snapshot_holds_all_of_it(feed: Feed) -> None:
    for _ in range(3):
        feed.flap()
        feed.cut(route(as_path_len=9))
    stored = bytes(routes_to_bytes(feed.routes))
    again = routes_from_bytes(stored)
    assert bytes(routes_to_bytes(again)) == stored
    assert again.all_rows().damped.tolist() == [True]
    assert np.array_equal(again.damping._up, feed.routes.damping._up)
