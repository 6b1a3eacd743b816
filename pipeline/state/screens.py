"""What every section asks of a number before it believes it: the limits, once.

A publisher may be broken, misconfigured or an hour off. Its rows are refused one by one, each with
a Reason, so that a bad reporter shows in the dead letters and not in the tables.
"""

from collections.abc import Iterable

import numpy as np
import polars as pl

from pipeline.config import SteeringConfig
from pipeline.reasons import Refusal
from pipeline.wire.rows import Check

BPS_MAX = 10**14  # 100 Tbit/s: above the egress of any CDN, below any overflow of what is summed
COUNT_MAX = 10**12  # of requests, connections, packets, milliseconds in one report
BYTES_MAX = 10**12  # of one play between two events: a terabyte
TIME_MAX_MS = 2**48  # the year 10,889: times ten-thousandths it still fits
FRACTION_MAX = 1.1  # load and busy time are sampled and may read a little above 1


def integers(frame: pl.DataFrame, limits: Iterable[tuple[str, int]]) -> Check:
    """OUT_OF_RANGE for rows in which a column is negative or above its limit."""
    bad = np.zeros(frame.height, dtype=np.bool_)
    for column, limit in limits:
        # As unsigned, a negative number is above every limit: one comparison for both.
        bad |= frame.get_column(column).to_numpy().view(np.uint64) > np.uint64(limit)
    return Refusal.OUT_OF_RANGE, bad


def doubles(frame: pl.DataFrame, limits: Iterable[tuple[str, float, float]]) -> tuple[Check, Check]:
    """NOT_A_NUMBER (NaN, infinite), then OUT_OF_RANGE for (column, least, most)."""
    no_number = np.zeros(frame.height, dtype=np.bool_)
    outside = np.zeros(frame.height, dtype=np.bool_)
    for column, least, most in limits:
        values = frame.get_column(column).to_numpy()
        no_number |= ~np.isfinite(values)
        outside |= (values < least) | (values > most)
    return (Refusal.NOT_A_NUMBER, no_number), (Refusal.OUT_OF_RANGE, outside)


def times(frame: pl.DataFrame, now_ms: int, config: SteeringConfig) -> tuple[Check, Check]:
    """FROM_THE_FUTURE and TOO_OLD, by the publisher's clock against the cut's."""
    at_ms = frame.get_column("at_ms").to_numpy()
    return (
        (Refusal.FROM_THE_FUTURE, at_ms > now_ms + config.inputs.future_max_ms),
        (Refusal.TOO_OLD, at_ms < now_ms - config.inputs.age_max_ms),
    )
