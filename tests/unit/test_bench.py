"""What the benchmarks make of what they read: no broker, no clock."""

import pytest

from pipeline.bench import ingest, metrics
from pipeline.bench.common import Closed, closed
from pipeline.errors import BrokerError
from pipeline.sim.size import SimSize
from pipeline.sim.world import World
from schemas.partition import partition_of


def epoch(partition: int, cut: int, closed_ms: int, plays: int) -> Closed:
    rows = {"play.events": plays} if plays else {}
    return Closed(partition, cut, closed_ms - 100, closed_ms, rows, 0, {}, 0)


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
