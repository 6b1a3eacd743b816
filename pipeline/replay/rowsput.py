"""Rows of records as a cut brings them, made and put in by hand: what changes of a what-if work
with."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from pipeline.cut import Cut
from pipeline.replay.fold import Rows
from pipeline.wire.catalog import CATALOG
from pipeline.wire.plan import plan_of
from pipeline.wire.rows import OFFSET, TopicRows


@cache
def record_plan(record: str) -> Any:
    """How the columns of a record are made."""
    schema = CATALOG.current(record)
    return plan_of(schema, schema)


def made(record: str, height: int, columns: Mapping[str, Any]) -> pl.DataFrame:
    """Rows of a record without offsets: series, or one value for all, or nothing (null)."""
    frame = pl.DataFrame({"_": pl.Series(np.zeros(height, np.uint8))}).with_columns(
        (value if isinstance(value, pl.Series) else pl.lit(value)).cast(kind.dtype).alias(name)
        for name, kind in record_plan(record).kinds.items()
        for value in (columns.get(name),)
    )
    return frame.drop("_")


def frame_of(rows: Rows, topic: str, record: str) -> pl.DataFrame:
    """The rows of a record in this cut, none where there are none."""
    there = rows[topic].frames.get(record) if topic in rows else None
    if there is None:
        there = made(record, 0, {}).with_columns(pl.lit(0, pl.Int64).alias(OFFSET))
    return there


def put(
    rows: Rows, cut: Cut, topic: str, record: str, more: pl.DataFrame, frame: pl.DataFrame
) -> Rows:
    """`frame` with `more` before it in place of the record's rows."""
    was = rows.get(topic, TopicRows(topic))
    if not more.height and not frame.height:
        return rows
    firsts = [one.get_column(OFFSET)[0] for one in was.frames.values() if one.height]
    firsts += [one.offset for one in was.refused]
    first = min(firsts, default=cut.offsets.get(topic, 0))
    more = more.with_columns(pl.lit(first - 1, pl.Int64).alias(OFFSET)).select(frame.columns)
    frames = {**was.frames, record: pl.concat([more, frame])}
    return {**rows, topic: TopicRows(topic, frames, was.refused)}
