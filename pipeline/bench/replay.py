"""The `replay` benchmark: how many times faster than real time a recording folds, on one core.

Each stage is a process of its own. `prepare` writes the recording (replayworld.py); `measure` does
what `edgesteer replay` does with it, from opening the file (every part is checked) to the last cut
compared; `decode` reads and decodes the same records cut by cut and folds none of them. Both run on
one core: polars has one thread, and where the system can pin a process, it is pinned.

    value = recorded time / time of `measure`

The peer is `decode_only`: no fold of these records, whoever wrote it, can be faster than handing
them over as columns, so the ratio says how much of what is possible is reached. There is no other
program that folds such a log. The detail says where the time goes; the timers are around the
sections as they are called, a microsecond a call.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import polars as pl

import pipeline.replay.fold
import pipeline.replay.lane
from pipeline.bench.alone import peak_mb, serve, stage
from pipeline.bench.replayworld import make
from pipeline.bench.sections import STEP, Section, Stopwatch
from pipeline.replay import archive
from pipeline.replay.compare import Tally, replay
from pipeline.replay.fold import cut_of, values_of
from pipeline.replay.lane import Lane
from pipeline.sim.size import SimSize
from schemas.registry import INPUTS, STEERING_CUTS

SECONDS = 3600
SEED = 1
SIZE = SimSize(
    regions=1, sites=200, appliances=2_000, prefixes=100_000, rate=5_000, churn_per_s=30.0
)
#: What is timed beside the sections of `step`. One that is called by another is counted in both.
_SECTIONS: tuple[Section, ...] = (
    (pl, "read_ipc", "archive"),
    (Lane, "take", "lanes, archive and decode in them"),
    (pipeline.replay.lane, "decode_chunk", "decode"),
    (pipeline.replay.fold, "step", "step"),
    *STEP,
)


def run(say: Callable[[str], None], seconds: int = SECONDS, size: SimSize = SIZE) -> dict[str, Any]:
    """Run all stages; returns name, value, unit, ratios and detail."""
    with tempfile.TemporaryDirectory(prefix="edgesteer-replay-") as folder:
        path = str(Path(folder) / "hour.recording")
        say(f"recording {seconds:,} s of a cell ...")
        how_large = orjson.dumps(asdict(size)).decode()
        prepared = stage(__name__, "prepare", path, str(seconds), how_large)
        say(f"folding {prepared['records']:,} records in {prepared['cuts']:,} cuts ...")
        measured, decoded = stage(__name__, "measure", path), stage(__name__, "decode", path)
    value = seconds / measured["seconds"]
    return {
        "name": "replay",
        "value": round(value, 1),
        "unit": "times real time",
        "ratios": {"decode_only": round(decoded["seconds"] / measured["seconds"], 3)},
        "detail": {**prepared, **measured, "decode_only": decoded},
    }


def prepare(path: str, seconds: str, size: str) -> dict[str, Any]:
    """Write the recording; what is in it."""
    manifest = make(Path(path), SEED, SimSize(**orjson.loads(size)), int(seconds))
    return {
        "recorded_s": manifest.span_ms / 1000,
        "cuts": manifest.cells[0].cuts,
        "records": sum(manifest.records.values()),
        "by_topic": manifest.records,
        "file_mb": round(Path(path).stat().st_size / 1e6, 1),
    }


def measure(path: str) -> dict[str, Any]:
    """Fold and compare everything."""
    began, cpu = time.perf_counter(), time.process_time()
    with Stopwatch(_SECTIONS) as watch, archive.Recording(Path(path)) as recording:
        opened = time.perf_counter() - began
        tally = Tally()
        for judged in replay(recording, tally):
            tally.add(judged)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    took = watch.took
    took["archive, checked when opened"] = opened
    took["compare and the rest"] = (
        seconds - opened - took["step"] - took["lanes, archive and decode in them"]
    )
    return {
        "seconds": round(seconds, 3),
        "processor_s": round(cpu, 3),
        "ms_a_cut": round(1000 * seconds / max(tally.compared, 1), 3),
        "outcomes": {str(kind): count for kind, count in tally.outcomes.items()},
        "all_equal": tally.all_equal,
        "rss_peak_mb": peak_mb(),
        "where_s": {name: round(took[name], 3) for name in sorted(took)},
        "calls": dict(sorted(watch.calls.items())),
    }


def decode(path: str) -> dict[str, Any]:
    """Open and check, then every record of every cut as columns; nothing is folded."""
    began, cpu, records = time.perf_counter(), time.process_time(), 0
    with archive.Recording(Path(path)) as recording:
        lanes = {topic.name: Lane(recording, topic.name, 0) for topic in INPUTS}
        for value in values_of(recording, STEERING_CUTS.name, 0):
            cut = cut_of(value)
            assert cut is not None
            for topic, lane in lanes.items():
                records += lane.take(cut.offsets[topic])[0].count
    return {
        "seconds": round(time.perf_counter() - began, 3),
        "processor_s": round(time.process_time() - cpu, 3),
        "records": records,
    }


if __name__ == "__main__":
    stages: dict[str, Callable[..., dict[str, Any]]] = {
        "prepare": prepare,
        "measure": measure,
        "decode": decode,
    }
    serve(stages)
