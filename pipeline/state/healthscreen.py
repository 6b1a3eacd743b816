"""Which Health reports are refused, and why."""

import numpy as np
import polars as pl

from pipeline.config import SteeringConfig
from pipeline.reasons import Refusal
from pipeline.state import screens
from pipeline.state.fleet import Fleet
from pipeline.state.ids import Int32
from pipeline.wire.rows import Check

_LIMITS = (
    ("egress_bps", screens.BPS_MAX),
    ("capacity_bps", screens.BPS_MAX),
    ("connections", screens.COUNT_MAX),
    ("requests", screens.COUNT_MAX),
    ("errors", screens.COUNT_MAX),
    ("ttfb_ms", screens.COUNT_MAX),
    ("retransmits", screens.COUNT_MAX),
    ("drain_by_ms", screens.TIME_MAX_MS),
)
_FRACTIONS = (("cpu", 0.0, screens.FRACTION_MAX), ("disk", 0.0, screens.FRACTION_MAX))


def checks(
    frame: pl.DataFrame, row: Int32, fleet: Fleet, now_ms: int, config: SteeringConfig
) -> list[Check]:
    """The checks of a frame of Health; row int32: the appliance of each, -1 unknown."""
    unknown = ~np.append(fleet.appliance_alive, np.False_)[row]
    errors, requests = (frame.get_column(name).to_numpy() for name in ("errors", "requests"))
    return [
        (Refusal.BAD_ID, fleet.appliances.strangers(frame.get_column("appliance"), row)),
        (Refusal.UNKNOWN_APPLIANCE, unknown),
        *screens.doubles(frame, _FRACTIONS),
        screens.integers(frame, _LIMITS),
        (Refusal.OUT_OF_RANGE, errors > requests),
        *screens.times(frame, now_ms, config),
    ]
