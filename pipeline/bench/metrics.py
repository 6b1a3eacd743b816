"""What a worker's /metrics says of its steps between two moments."""

from collections.abc import Mapping
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from pipeline.broker.process import LOOPBACK

WATCHED = ("edgesteer_step_ms", "edgesteer_publish_ms", "edgesteer_snapshot_ms")
_TOTALS = ("sum", "count", "created")
#: (metric, cause or partition, what of it) -> value, all of them counting up.
Reading = Mapping[tuple[str, str, str], float]


async def read(port: int) -> Reading:
    """The histograms of `WATCHED`, of the worker that listens on `port` of this machine."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{LOOPBACK}:{port}/metrics") as reply,
    ):
        text = await reply.text()
    found = {}
    for family in text_string_to_metric_families(text):
        if family.name in WATCHED:
            for sample in family.samples:
                what = sample.labels.get("le") or sample.name.rpartition("_")[2]
                found[
                    family.name, sample.labels.get("cause") or sample.labels["partition"], what
                ] = sample.value
    return found


def between(before: Reading, after: Reading) -> dict[str, dict[str, Any]]:
    """By metric and cause: `count`, `mean_ms`, and `all_below_ms`: the bound of the bucket that
    holds the longest."""
    found: dict[str, dict[str, Any]] = {}
    for metric, cause in sorted({key[:2] for key in after}):
        grown = {
            what: value - before.get((metric, cause, what), 0.0)
            for (one, other, what), value in after.items()
            if (one, other) == (metric, cause)
        }
        count = grown["count"]
        if count:
            bounds = sorted(
                float(what) for what in grown if what not in ("sum", "count", "created")
            )
            below = next(bound for bound in bounds if grown[_label(bound)] >= count)
            name = f"{metric.removeprefix('edgesteer_').removesuffix('_ms')} {cause}"
            found[name] = {
                "count": int(count),
                "mean_ms": round(grown["sum"] / count, 2),
                "all_below_ms": below,
            }
    return found


def total(reading: Reading, metric: str, which: str) -> tuple[float, float]:
    """Sum and count of one cause or partition."""
    total_ms, count = (reading.get((metric, which, what), 0.0) for what in ("sum", "count"))
    return total_ms, count


def _label(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(bound)
