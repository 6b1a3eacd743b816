"""The `snapshot` benchmark: what it costs to write a cell down, and what its cuts feel of it.

Two stages. `measure`, in a process of its own and without a broker: a cell with 2,000 appliances,
a million prefixes and all their routes lives for a minute at a time (plays, health, links, paths
and a set number of changed routes) and is then written down as the worker does it: its sections
are looked at and changed chunks copied, for which the cell holds still, more than once where that
is much (a second of its life apart). `held_ms` is the longest of these: how long a cut can be
delayed by it. Writing to the broker is done beside the cuts. At the end the cell is restored from
the chunks and goes on.

`live`: the same size on Apache Kafka with `edgesteer sim run`, one worker that writes no snapshots
and then one that writes many more than usual. From the cut log and the Epochs: how long after the
moment of its tick a cut was made, and its Epoch sent. The ratio is that of the 99th percentiles
until the Epoch, with snapshots and without.

The value is the longest time for which a cell was held, of both stages.
"""

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import orjson

from pipeline.bench import metrics
from pipeline.bench.common import (
    APPLIANCES,
    PLAYS_PER_S,
    SITES,
    START_TIMEOUT_S,
    Closed,
    Say,
    epochs,
    fleet_args,
    is_steady,
    kafka,
    machine,
    running,
    spread,
    until_up,
    worker_args,
)
from pipeline.bench.livingcell import LivingCell
from pipeline.broker.process import free_ports
from pipeline.broker.settings import BrokerSettings
from pipeline.cell import Cell
from pipeline.cut import Cause
from pipeline.follow.reader import TopicReader
from pipeline.sim.size import SimSize
from pipeline.snapshot.chunks import Chunks, restore
from pipeline.wire.decode import decode
from schemas.registry import STEERING_CUTS, STEERING_EPOCHS

SEED = 1
PREFIXES = 1_000_000
ROUTES_CHANGED = (0, 100, 1_000, 10_000)
ROUNDS, SECONDS_BETWEEN = 3, 60
#: Live: of each worker, and cuts between two snapshots of the second one.
SECONDS, EVERY_CUTS = 120, 15
PARTITIONS, TICK_MS = 4, 1000
_NEVER = 100_000
T = TypeVar("T")
_SNAPSHOT_MS, _ASKED_S = "edgesteer_snapshot_ms", 2.0  # more often than snapshots are taken


def run(say: Say, prefixes: int = PREFIXES, seconds: int = SECONDS) -> dict[str, Any]:
    """Both stages. Raises BrokerError when something ends or hangs."""
    say(f"{prefixes:,} prefixes in one process ...")
    done = subprocess.run(  # noqa: S603  (this very module, with arguments of our own)
        [sys.executable, "-m", "pipeline.bench.snapshot", str(prefixes)],
        check=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    measured: dict[str, Any] = orjson.loads(done.stdout)
    found = asyncio.run(live(say, prefixes, seconds))
    return summary(measured, found)


def summary(measured: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The result, of both stages."""
    held = [one["held_worst_ms"] for one in measured["by_routes_changed"].values()]
    held += [measured["first"]["held_ms"], found["with_snapshots"]["held_worst_ms"]]
    late = [found[name]["tick_to_epoch_ms"] for name in ("with_snapshots", "without")]
    return {
        "name": "snapshot",
        "value": max(held),
        "unit": "ms",
        "ratios": {"without_snapshots": round(late[0]["p99"] / late[1]["p99"], 2)},
        "detail": {"machine": machine(), "in_process": measured, "live": found},
    }


# -- in one process --------------------------------------------------------------------------------


def measure(
    size: SimSize,
    changed: Sequence[int] = ROUTES_CHANGED,
    rounds: int = ROUNDS,
    seconds: int = SECONDS_BETWEEN,
) -> dict[str, Any]:
    """Snapshots of a living cell, by routes changed between two of them; then restored."""
    world = LivingCell(SEED, size)
    world.live(seconds, 0)
    table = _Table(world)
    found: dict[str, Any] = {
        "appliances": size.appliances,
        "prefixes": world.cell.ledger.prefix_count(),
        "routes": len(world.cell.routes),
        "first": table.write(),
        "by_routes_changed": {},
    }
    for count in changed:
        routes = [world.live(seconds, count)]
        written = [table.write()]
        for _ in range(rounds - 1):
            routes.append(world.live(seconds, count))
            written.append(table.write())
        found["by_routes_changed"][f"{count:,}"] = {
            "routes": round(median(routes)),
            "chunks": round(median(one["chunks"] for one in written)),
            "written_mb": median(one["written_mb"] for one in written),
            "times_held": round(median(one["times_held"] for one in written)),
            "sections_ms": median(one["sections_ms"] for one in written),
            "copy_ms": median(one["copy_ms"] for one in written),
            "held_ms": median(one["held_ms"] for one in written),
            "held_worst_ms": max(one["held_ms"] for one in written),
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**found, **table.restored(), "rss_peak_mb": peak >> (20 if _BYTES else 10)}


_BYTES = sys.platform == "darwin"  # what ru_maxrss counts; elsewhere kilobytes


class _Table:
    """The table of one cell's chunks, in memory."""

    def __init__(self, world: LivingCell) -> None:
        self._world, self._chunks, self._held = world, Chunks(1, (), ()), dict[bytes, bytes]()

    def write(self) -> dict[str, Any]:
        """A snapshot; what it cost. What is too much at once is copied after several ticks."""
        spans: list[tuple[float, float]] = []
        ready, chunks, written_bytes = False, 0, 0
        while not ready:
            if spans:
                self._world.live(1, 0)
            sections, sections_ms = _timed(self._world.cell.to_sections)
            cut = self._world.cut
            planned = partial(self._chunks.plan, sections, cut, cut.number, {})
            plan, copy_ms = _timed(planned)
            spans.append((sections_ms, copy_ms))
            self._held |= dict([*plan.chunks, *plan.records])
            for key in plan.obsolete:
                del self._held[key]
            self._chunks.written(plan)
            chunks += len(plan.chunks)
            written_bytes += plan.size_bytes
            ready = plan.commit is not None
        return {
            "chunks": chunks,
            "written_mb": round(written_bytes / 1e6, 1),
            "times_held": len(spans),
            "sections_ms": max(one for one, _ in spans),
            "copy_ms": max(one for _, one in spans),
            "held_ms": round(max(map(sum, spans)), 1),
        }

    def restored(self) -> dict[str, Any]:
        """The way back, and the first tick of the one who went it."""
        (snapshot, _), join_ms = _timed(lambda: restore(self._held))
        assert snapshot is not None
        cell, from_bytes_ms = _timed(lambda: Cell.from_bytes(0, 1, snapshot.sections))
        same = cell.to_bytes() == self._world.cell.to_bytes()
        rows = self._world.hear()
        _, first_tick_ms = _timed(lambda: self._world.fold(cell, rows))
        _, tick_ms = _timed(lambda: self._world.fold(self._world.cell, rows))
        return {
            "snapshot_mb": round(sum(map(len, snapshot.sections.values())) / 1e6, 1),
            "join_ms": join_ms,
            "from_bytes_ms": from_bytes_ms,
            "first_tick_ms": first_tick_ms,
            "same_tick_of_the_original_ms": tick_ms,
            "equals_original": same,
        }


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    return work(), _ms(time.perf_counter() - began)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


# -- live ------------------------------------------------------------------------------------------


async def live(say: Say, prefixes: int, seconds: int) -> dict[str, Any]:
    """Lateness of cuts without snapshots and with many."""
    found: dict[str, dict[str, Any]] = {}
    async with (
        kafka(PARTITIONS, say) as (broker, folder),
        running("fleet", fleet_args(prefixes), broker, folder) as fleet,
    ):
        await until_up(fleet)
        for name, every in (("without", _NEVER), ("with_snapshots", EVERY_CUTS)):
            (port,) = free_ports(1)
            options = ["--metrics-port", str(port), "--snapshot-every", str(every)]
            arguments = [*worker_args(folder, name), *options]
            async with running(name, arguments, broker, folder) as worker:
                say(f"{prefixes:,} prefixes on Kafka, {name.replace('_', ' ')} ...")
                steady = _is_steady_since(time.time() * 1000)
                began = await epochs(broker, steady, worker, START_TIMEOUT_S)
                cell = max(began, key=lambda one: one.prefixes)
                found[name] = await _watch(broker, cell.partition, port, seconds)
    return {"appliances": APPLIANCES, "prefixes": cell.prefixes, "every_cuts": EVERY_CUTS, **found}


def _is_steady_since(since_ms: float) -> Callable[[list[Closed]], bool]:
    """What an earlier worker did does not count."""
    return lambda found: is_steady([one for one in found if one.at_ms > since_ms])


async def _watch(broker: BrokerSettings, partition: int, port: int, seconds: int) -> dict[str, Any]:
    """So many seconds of one worker."""
    began_ms, end = int(time.time() * 1000), time.monotonic() + seconds
    held: list[float] = []
    total, count = metrics.total(await metrics.read(port), _SNAPSHOT_MS, str(partition))
    while time.monotonic() < end:
        await asyncio.sleep(_ASKED_S)
        last, reading = (total, count), await metrics.read(port)
        total, count = metrics.total(reading, _SNAPSHOT_MS, str(partition))
        if count > last[1]:
            held.append((total - last[0]) / (count - last[1]))
    return {
        "snapshots": len(held),
        "held_ms": round(median(held), 1) if held else 0.0,
        "held_worst_ms": round(max(held, default=0.0), 1),
        **await _lateness(broker, partition, began_ms),
    }


def lateness_ms(at_ms: int, partition: int) -> int:
    """How long after the moment of its tick a cut was made; a timer may be a little early."""
    early_ms = TICK_MS // 4
    return (at_ms - partition * TICK_MS // PARTITIONS + early_ms) % TICK_MS - early_ms


async def _lateness(broker: BrokerSettings, partition: int, began_ms: int) -> dict[str, Any]:
    """Of the ticks since then: how long after their moment the cut was made, and its Epoch sent."""
    late, behind = dict[int, int](), dict[int, int]()
    async with TopicReader(
        broker, (STEERING_CUTS.name, STEERING_EPOCHS.name), [partition]
    ) as reader:
        await reader.from_time(began_ms)
        async for fetched in reader.until(await reader.ends()):
            for topic, records in fetched.items():
                for record in records:
                    fields = decode(record.value)[1]
                    if topic.topic == STEERING_EPOCHS.name:
                        behind[fields["cut"]] = fields["behind_ms"]
                    elif fields["cause"] == Cause.TICK:
                        late[fields["number"]] = lateness_ms(fields["at_ms"], partition)
    ticks = sorted(late.keys() & behind.keys())
    return {
        "ticks": len(ticks),
        "tick_late_ms": spread([late[cut] for cut in ticks]),
        "tick_to_epoch_ms": spread([late[cut] + behind[cut] for cut in ticks]),
    }


if __name__ == "__main__":
    size = SimSize(
        regions=1, sites=SITES, appliances=APPLIANCES, prefixes=int(sys.argv[1]), rate=PLAYS_PER_S
    )
    os.write(1, orjson.dumps(measure(size)))
