"""What a cut came to, as metrics."""

from collections import Counter

from pipeline.cell import Cell
from pipeline.cut import Cut
from pipeline.effects import Effects
from pipeline.state.fleet import CLASSES
from schemas.registry import TABLES
from topologies import metrics


def observe(cell: Cell, cut: Cut, effects: Effects, seconds: float) -> None:
    """Of a cell that has folded this cut, in so many seconds."""
    metrics.STEP_MS.labels(cut.cause).observe(seconds * 1000)
    metrics.CUTS.labels(cut.partition, cut.cause).inc()
    metrics.CUT_NUMBER.labels(cut.partition).set(cut.number)
    for state, count in cell.states().items():
        metrics.APPLIANCES.labels(cut.partition, state).set(count)
    _observe_demand(cell)
    draft = effects.epoch
    counts = (draft.sites, draft.groups, draft.prefixes, draft.loads)
    for table, count in zip(TABLES, counts, strict=True):
        metrics.TABLE.labels(cut.partition, table.name).set(count)
    for topic, rows in effects.epoch.rows.items():
        metrics.ROWS.labels(cut.partition, topic).inc(rows)
    for name, count in effects.epoch.notes.items():
        metrics.NOTED.labels(name).inc(count)
    for topic, refused in effects.refused.items():
        for reason, count in Counter(one.reason for one in refused).items():
            metrics.REFUSED.labels(topic, reason).inc(count)
    for verdict in effects.verdicts:
        metrics.VERDICTS.labels(verdict.kind, verdict.reason).inc()


def _observe_demand(cell: Cell) -> None:
    for region, expected in cell.expected_bps().items():
        columns = (one.tolist() for one in expected)
        for klass, level_bps, forecast_bps, error_bps in zip(CLASSES, *columns, strict=True):
            metrics.DEMAND.labels(region, klass).set(level_bps)
            metrics.FORECAST.labels(region, klass).set(forecast_bps)
            if error_bps >= 0:  # -1: not known yet
                metrics.FORECAST_ERROR.labels(region, klass).set(error_bps)
