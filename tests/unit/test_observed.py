"""What a cut came to, as metrics."""

import numpy as np
from prometheus_client import generate_latest

from pipeline.cell import Cell
from pipeline.cut import Cause, Cut
from pipeline.effects import Effects, EpochDraft
from pipeline.regions import Region
from pipeline.state.forecast import Expected
from topologies.metrics import REGISTRY
from topologies.observed import observe


def shown(name: str) -> list[str]:
    lines = generate_latest(REGISTRY).decode().splitlines()
    return [one for one in lines if one.startswith(f"{name}{{") and "watched" in one]


def test_demand_its_forecast_and_the_error_stand_by_region_and_class() -> None:
    cell = Cell(0, 1)
    cell.regions[0] = Region(0, "watched", cell.ledger)
    columns = (np.array(each) for each in ([1000, 0, 7], [1100, 0, 8], [50, -1, 0]))
    expected = Expected(*columns)
    cell.demand.expected_of = lambda region: expected  # type: ignore[method-assign]
    draft = EpochDraft(table_hash=0, prefixes=0, groups=0, sites=0, rows={}, folded={}, notes={})
    effects = Effects(tables=[], verdicts=[], prices=[], refused={}, epoch=draft)
    cut = Cut(0, 1, 1, "me", 1_000, Cause.TICK, {}, "", 0)
    observe(cell, cut, effects, 0.001)
    assert shown("edgesteer_demand_bps") == [
        'edgesteer_demand_bps{class="VOD",region="watched"} 1000.0',
        'edgesteer_demand_bps{class="LIVE",region="watched"} 0.0',
        'edgesteer_demand_bps{class="GAME",region="watched"} 7.0',
    ]
    assert shown("edgesteer_demand_forecast_bps")[0].endswith(" 1100.0")
    assert shown("edgesteer_demand_forecast_error_bps") == [
        'edgesteer_demand_forecast_error_bps{class="VOD",region="watched"} 50.0',
        'edgesteer_demand_forecast_error_bps{class="GAME",region="watched"} 0.0',
    ]
