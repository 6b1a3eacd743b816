"""Level and plan are kept up with what is added; they are what the ring alone comes to."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import InputConfig, SteeringConfig
from pipeline.state.demand import IDLE_MS, Demand
from tests.frames import NOW_MS, fleet_with, fold_into, play

FLEET = fleet_with(2)
CONFIGS = (
    SteeringConfig(),
    SteeringConfig(inputs=InputConfig(demand_window_ms=20_000, demand_bucket_ms=2_000)),
)
PLAYS = st.tuples(
    st.integers(1, 12), st.integers(-5_000, 90_000), st.sampled_from(["VOD", "LIVE", "GAME"])
)
#: (milliseconds since the last cut, plays with their lag, configuration, looked at afterwards)
CUTS = st.tuples(
    st.sampled_from([0, 700, 1_000, 5_000, 33_000, 70_000, IDLE_MS]),
    st.lists(PLAYS, max_size=8),
    st.sampled_from([0, 0, 0, 1]),
    st.booleans(),
)


@given(st.lists(CUTS, max_size=12))
def test_the_level_that_is_kept_up_is_that_of_the_ring(
    cuts: list[tuple[int, list[tuple[int, int, str]], int, bool]],
) -> None:
    demand, now_ms = Demand(), NOW_MS
    for passed_ms, lagging, which, looked_at in cuts:
        now_ms += passed_ms
        rows: list[tuple[str, dict[str, Any]]] = [
            play(f"198.18.{block}.1", now_ms - lag_ms, traffic_class=name, amount=block * 999_983)
            for block, lag_ms, name in lagging
        ]
        fold_into(demand, "play.events", rows, FLEET, now_ms, CONFIGS[which])
        demand.compact(now_ms)
        demand.learn(now_ms)
        if looked_at:
            made_anew = Demand.from_bytes(bytes(demand.to_bytes()))
            assert demand.level_bps(now_ms).tolist() == made_anew.level_bps(now_ms).tolist()
            assert demand.planned_bps(now_ms).tolist() == made_anew.planned_bps(now_ms).tolist()


@given(st.lists(CUTS, max_size=12))
def test_when_plays_are_added_shows_nowhere(
    cuts: list[tuple[int, list[tuple[int, int, str]], int, bool]],
) -> None:
    """One is asked after each cut, one now and then, one only at the end."""
    asked, sometimes, never = Demand(), Demand(), Demand()
    now_ms = NOW_MS
    for passed_ms, lagging, which, looked_at in cuts:
        now_ms += passed_ms
        rows: list[tuple[str, dict[str, Any]]] = [
            play(f"198.18.{block}.1", now_ms - lag_ms, traffic_class=name, amount=block * 999_983)
            for block, lag_ms, name in lagging
        ]
        for demand in (asked, sometimes, never):
            fold_into(demand, "play.events", rows, FLEET, now_ms, CONFIGS[which])
            demand.compact(now_ms)
            demand.learn(now_ms)
        asked.level_bps(now_ms)
        if looked_at:
            sometimes = Demand.from_bytes(bytes(sometimes.to_bytes()))
    kept = bytes(asked.to_bytes())
    assert bytes(sometimes.to_bytes()) == kept
    assert bytes(never.to_bytes()) == kept
