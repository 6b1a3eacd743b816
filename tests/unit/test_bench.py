"""What the benchmarks make of what they read: no broker, no clock."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.bench import assign, ingest, metrics, recovery, snapshot
from pipeline.bench.common import Closed, closed, is_steady
from pipeline.errors import BrokerError
from pipeline.sim.size import SimSize
from pipeline.sim.world import World
from schemas.partition import partition_of
from topologies.app import SESSION_TIMEOUT_S


def epoch(partition: int, cut: int, closed_ms: int, plays: int) -> Closed:
    rows = {"play.events": plays} if plays else {}
    return Closed(partition, cut, closed_ms - 100, closed_ms, rows, 0, {}, 0)


def test_a_cell_is_steady_when_its_table_is_there_and_not_while_it_loads() -> None:
    def found(*routes: int, prefixes: int = 1000, behind_ms: int = 100) -> list[Closed]:
        return [
            Closed(0, number, 0, behind_ms, {"bgp.routes": each}, 0, {}, prefixes)
            for number, each in enumerate(routes)
        ]

    assert not is_steady(found(0, 0, 0, 0, prefixes=0))
    assert not is_steady(found(0, 0, 0))
    assert not is_steady(found(1000, 1000, 1000, 11))
    assert not is_steady(found(1000, 11, 3, 4))
    assert not is_steady(found(0, 0, 0, 0, behind_ms=1000))
    assert is_steady(found(1000, 10, 3, 4))  # routes come and go


def test_ingest_leaves_out_the_first_cut_and_the_last_of_each_partition_that_ends_late() -> None:
    found = [
        epoch(0, 1, 1000, 0),
        epoch(0, 2, 2000, 500),  # the clock starts when this is closed: its rows came before
        epoch(1, 1, 2500, 100),
        epoch(1, 2, 3000, 300),  # partition 1's last, while partition 0 goes on: counts
        epoch(0, 3, 4000, 600),  # the clock stops here
        epoch(0, 4, 5000, 7),  # waited for its tick: left out
        epoch(1, 3, 5500, 0),
    ]
    figures = ingest._figures(found, {"play.events": 1507})
    assert figures["events"] == 100 + 300 + 600
    assert figures["seconds"] == 2.0
    assert figures["events_per_s"] == 500
    assert figures["whole_run_seconds"] == 4.1  # from the first cut of all to the last with plays


def test_ingest_has_no_figure_from_a_single_busy_cut() -> None:
    with pytest.raises(BrokerError, match="more events"):
        ingest._figures([epoch(0, 1, 1000, 10), epoch(0, 2, 2000, 10)], {"play.events": 20})


def test_every_partition_gets_a_region_and_plays() -> None:
    world = World(1, SimSize(regions=ingest.PARTITIONS, rate=100), 0)
    ingest._spread(world)
    places = [partition_of(area.id, ingest.PARTITIONS) for area in world.ground.regions]
    assert places == list(range(ingest.PARTITIONS))
    inventory = {batch.region for batch in world.inventory()}
    assert inventory == {area.id for area in world.ground.regions}


def test_an_epoch_in_short_adds_up_its_inputs() -> None:
    inputs = [
        {"topic": "play.events", "rows": 5, "refused": 1},
        {"topic": "bgp.routes", "rows": 2, "refused": 2},
    ]
    short = closed(
        {
            "partition": 3, "cut": 9, "at_ms": 1000, "behind_ms": 20, "inputs": inputs,
            "notes": [{"name": "late", "count": 4}], "prefixes": 11,
        }
    )  # fmt: skip
    assert short == Closed(
        3, 9, 1000, 1020, {"play.events": 5, "bgp.routes": 2}, 3, {"late": 4}, 11
    )


def test_a_histogram_between_two_moments_tells_count_mean_and_the_longest_ones_bucket() -> None:
    def reading(sum_ms: float, below_5: int, below_10: int, count: int) -> metrics.Reading:
        whats = {"sum": sum_ms, "count": count, "5.0": below_5, "10.0": below_10, "+Inf": count}
        return {("edgesteer_step_ms", "TICK", what): value for what, value in whats.items()}

    before, after = reading(100, 2, 3, 4), reading(130, 5, 7, 8)
    assert metrics.between(before, after) == {
        "step TICK": {"count": 4, "mean_ms": 7.5, "all_below_ms": 10.0}
    }
    assert metrics.between(after, after) == {}


def test_the_peers_are_those_that_scripts_rely_on() -> None:
    assert {peer.name for peer in ingest.PEERS} == {
        "stock_faust", "aiokafka", "confluent", "quixstreams", "bytewax", "fetch_only",
    }  # fmt: skip


def test_snapshots_are_measured_by_partition() -> None:
    reading = {
        ("edgesteer_snapshot_ms", "3", "sum"): 90.0, ("edgesteer_snapshot_ms", "3", "count"): 2.0,
        ("edgesteer_snapshot_ms", "0", "sum"): 1.0, ("edgesteer_snapshot_ms", "0", "count"): 1.0,
    }  # fmt: skip
    assert metrics.total(reading, "edgesteer_snapshot_ms", "3") == (90.0, 2.0)
    assert metrics.total(reading, "edgesteer_snapshot_ms", "1") == (0.0, 0.0)


@pytest.mark.parametrize(("late_ms", "seen_ms"), [(0, 0), (30, 30), (749, 749), (-2, -2)])
def test_a_tick_is_late_by_what_it_is_behind_its_moment(late_ms: int, seen_ms: int) -> None:
    moment_ms = 1_800_000_000_000 + 3 * snapshot.TICK_MS // snapshot.PARTITIONS
    assert snapshot.lateness_ms(moment_ms + late_ms, 3) == seen_ms


def test_the_log_tells_the_parts_of_a_take_over(tmp_path: Path) -> None:
    log = tmp_path / "b.log"
    events = {"noticed": 8.0, "rebalance": 0.5, "table_recovery": 0.25, "restore": 2.0, "fold": 1.0}
    earlier = b'{"event": "caught up", "partition": 2, "timestamp": "2026-01-01T00:00:00Z"}\n'
    log.write_bytes(b"not a line of ours\n" + earlier)
    mark, at, written = log.stat().st_size, 0.0, b""
    for part, seconds in events.items():
        at += seconds
        line = f'"event": "{recovery.PARTS[part]}", "timestamp": "2026-01-01T00:00:{at:09.6f}Z"'
        written += f"{{{line}}}\n".encode()
    other = b'{"event": "caught up", "partition": 1, "timestamp": "2026-01-01T00:00:59Z"}\n'
    log.write_bytes(log.read_bytes() + written + other)
    began = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    parts = recovery.parts_of(log, mark, 2, began, began + 12.0)
    assert parts == pytest.approx({**events, "take_over": 0.25})
    assert len(recovery.lines(log, 0, "caught up", 2)) == 2


def test_recovery_is_as_slow_as_its_slowest_kill() -> None:
    def taken(seconds: float, prefixes: int = 7) -> recovery.Taken:
        parts = dict.fromkeys((*recovery.PARTS, "take_over"), seconds / 6)
        return recovery.Taken(seconds, seconds + 0.5, 30, prefixes, parts)

    found = recovery.summary([taken(9.0), taken(11.0, prefixes=5)], [taken(3.0)])
    assert (found["name"], found["value"], found["unit"]) == ("recovery", 11.0, "s")
    assert found["detail"]["beyond_session_timeout_s"] == 11.0 - SESSION_TIMEOUT_S
    assert found["detail"]["kill"]["each_s"] == [9.0, 11.0]
    assert found["detail"]["hand_over"]["silent_each_s"] == [3.5]
    assert found["detail"]["prefixes"] == 5


def test_snapshots_of_a_living_cell_grow_with_what_changed_and_restore_it() -> None:
    size = SimSize(regions=1, sites=12, appliances=40, prefixes=3_000, rate=50)
    found = snapshot.measure(size, changed=(0, 400), rounds=2, seconds=2)
    still, busy = found["by_routes_changed"].values()
    assert still["routes"] == 0
    assert busy["routes"] > 200
    assert still["chunks"] < busy["chunks"] <= found["first"]["chunks"]
    assert found["equals_original"]


def test_a_snapshot_costs_as_much_as_the_longest_time_a_cell_was_held() -> None:
    found = snapshot.summary(
        {"first": {"held_ms": 60.0}, "by_routes_changed": {"0": {"held_worst_ms": 40.0}}},
        {
            "with_snapshots": {"held_worst_ms": 70.0, "tick_to_epoch_ms": {"p99": 33.0}},
            "without": {"held_worst_ms": 0.0, "tick_to_epoch_ms": {"p99": 30.0}},
        },
    )
    assert (found["value"], found["unit"]) == (70.0, "ms")
    assert found["ratios"] == {"without_snapshots": 1.1}


def test_the_shares_of_the_assign_benchmark_are_as_cheap_as_the_whole_problem_by_highs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = {"GROUPS": 300, "CANDIDATES": 6, "SITES": 40, "OVERLOADED": 3, "ROUNDS": 2}
    for name, value in small.items():
        monkeypatch.setattr(assign, name, value)
    detail = assign.run()["detail"]
    assert detail["exact"]
    assert detail["overloaded"] == 3
    assert detail["detour_cost_to_the_least"]["exact"] == pytest.approx(1, abs=1e-3)
    assert detail["detour_cost_to_the_least"]["spill_over"] >= 1 - 1e-3
