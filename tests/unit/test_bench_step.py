"""The benchmarks of one cut and of a whole fleet, on small cells. Say nothing about how fast they
are: a benchmark is no test."""

import os

import orjson
import pytest

from pipeline.bench import costs, fleet, step, workermemory
from pipeline.bench.livingcell import LivingCell
from pipeline.bench.sections import STEP, Stopwatch
from pipeline.decide.groups import RegionTable
from pipeline.sim.size import SimSize
from pipeline.state.health import ApplianceState

SMALL = SimSize(regions=1, sites=12, appliances=48, prefixes=2_000, rate=50, churn_per_s=3.0)
LINE = {"appliances": 0.01, "prefixes": 0.0001, "plays_per_s": 0.001}


def test_step_measures_ticks_urgent_cuts_and_a_site_that_dies() -> None:
    said: list[str] = []
    found = step.run(said.append, step.FAILURES_EVERY_S + 1, SMALL, blocks=1)
    detail = found["detail"]
    assert (found["name"], found["unit"]) == ("step", "ms")
    assert found["value"] == detail["steady"]["tick_processor_ms"]["p99"] > 0
    assert found["ratios"].keys() == {"decode_only", "full_build"}
    assert detail["steady"]["ticks"] == step.FAILURES_EVERY_S + 1
    assert detail["site_loss"]["ticks"] == step.FAILURES_EVERY_S + 1
    assert detail["site_loss"]["left_with_the_site"] == 0
    worst = {f"{kind}_processor_ms" for kind in ("tick", "urgent")}
    assert detail["site_loss"]["worst_ms"] == max(detail["site_loss"][it]["max"] for it in worst)
    assert detail["cell"]["appliances"] == SMALL.appliances
    assert detail["warm_up_s"] == costs.WARM_MIN_S
    inventory = "step: fold inventory"  # all of it came before
    assert detail["where_ms_a_cut"].keys() == {label for _, _, label in STEP} - {inventory}
    assert len(said) == 1


def test_the_costs_of_a_cell_are_those_of_cuts_that_decide() -> None:
    world = LivingCell(1, SMALL)
    measured = costs.Costs(world)
    measured.tick()
    (site, *_) = world.cell.fleet.sites.names
    measured.urgent("FAIL", site)
    states = world.cell.health.state[world.cell.fleet.appliance_site == 0]
    assert set(states.tolist()) == {ApplianceState.DOWN}
    found = measured.spreads()
    assert found["ticks"] == 1
    assert found.keys() == {"ticks"} | {
        f"{what}_{by}_ms" for what in ("decode", "tick", "urgent") for by in ("processor", "clock")
    }


def test_warming_up_ends_with_as_many_client_blocks_as_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(costs, "WARM_MIN_S", 2)
    world = LivingCell(1, SMALL)
    assert costs.warm_up(world) == 2
    blocks = len(world.cell.demand) + 20
    assert costs.warm_up(world, blocks) >= 2
    assert len(world.cell.demand) >= blocks


def test_a_stopwatch_leaves_things_as_they_were() -> None:
    before, ticks = RegionTable.update, iter(range(100))
    with Stopwatch([(RegionTable, "update", "tables")], lambda: float(next(ticks))) as watch:
        world = LivingCell(1, SMALL)
        assert RegionTable.update is not before
    assert RegionTable.update is before
    assert watch.calls["tables"] == world.cut.number  # every cut was a tick
    assert watch.took["tables"] == watch.calls["tables"]  # this clock goes on by one a look


def cells(what: str, counts: tuple[int, ...], part: str = "step_ms") -> list[dict[str, float]]:
    """Cells that cost 5 ms and LINE."""
    sizes = [
        {"appliances": 1_000, "prefixes": 300_000, "plays_per_s": 10_000, what: count}
        for count in counts
    ]
    return [{**one, part: 5 + sum(LINE[each] * one[each] for each in LINE)} for one in sizes]


def test_what_a_fleet_costs_is_on_the_line_through_its_cells() -> None:
    measured = {what: cells(what, counts) for what, counts in fleet.VARIED.items()}
    line = fleet.Line.through(measured, "step_ms")
    assert line.each_ms == pytest.approx(LINE)
    assert line.cell_ms == pytest.approx(5)
    # 20,000 x 0.01 + 1,200,000 x 0.0001 + 1,000,000 x 0.001 + 10 x 5
    assert line.fleet_ms() == pytest.approx(200 + 120 + 1000 + 50)
    # a tenth of it is 137 ms, of which 100 are plays: 963 may be
    # a slope has other last bits on another machine, and what is told is rounded to a tenth
    times = {"appliances": 44.15, "prefixes": 72.92, "plays_per_s": 9.63, "all": 7.54}
    assert line.headroom() == pytest.approx(times, abs=0.06)


def test_the_fleet_benchmark_says_what_it_needs_and_what_breaks_first() -> None:
    measured = {
        what: [one | {"decode_ms": 1e-4 * one["plays_per_s"]} for one in cells(what, counts)]
        for what, counts in fleet.VARIED.items()
    }
    found = fleet.summary(measured, {"1,200 prefixes": {"peak_mb": 10}})
    assert (found["name"], found["value"], found["unit"]) == ("fleet", 1.47, "cores")
    assert found["ratios"] == {"decode_only": 14.7}
    assert found["detail"]["breaks_first"] == "plays_per_s"
    assert found["detail"]["times_until_a_core_is_full"]["plays_per_s"] == 8.8
    assert found["detail"]["us_a_second_each"]["plays_per_s"] == pytest.approx(1.1)
    assert found["detail"]["worker_memory"] == {"1,200 prefixes": {"peak_mb": 10}}


def test_a_cell_of_the_fleet_benchmark_is_measured_at_the_size_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(costs, "WARM_MIN_S", 2)
    size = fleet.sized("appliances", 500)
    assert (size.sites, size.prefixes, size.rate) == (50, 300_000, 10_000)
    assert fleet.sized("prefixes", 900_000).churn_per_s == pytest.approx(22.5)
    found = fleet.measure(orjson.dumps(SMALL).decode(), "2")
    assert (found["appliances"], found["prefixes"], found["plays_per_s"]) == (48, 2_000, 50)
    assert found["step_ms"] > 0
    assert found["decode_ms"] > 0


def test_the_memory_of_a_process_is_what_linux_says() -> None:
    held, peak = (workermemory.memory_mb(os.getpid(), name) for name in ("VmRSS", "VmHWM"))
    assert held is None or (peak is not None and 0 < held <= peak)
