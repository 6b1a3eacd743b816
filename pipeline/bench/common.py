"""What the benchmarks share: the machine, a broker, a worker, and what the plane said.

Every benchmark runs on brokers and processes of its own and ends them all. Its figures belong to
the machine and to one run; what may be compared are the ratios within a run.
"""

import asyncio
import os
import platform
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.broker.kafka import VERSION, KafkaCluster
from pipeline.broker.running import demo_folder
from pipeline.broker.settings import BrokerSettings
from pipeline.broker.topics import create_topics
from pipeline.demo.children import Child
from pipeline.errors import BrokerError
from pipeline.follow.reader import TopicReader
from pipeline.wire.decode import decode
from schemas.registry import BGP_ROUTES, STEERING_EPOCHS

Say = Callable[[str], None]
POLL_S = 0.2
START_TIMEOUT_S = 300.0
#: The busy cell of `fleet_args`.
SITES, APPLIANCES, PLAYS_PER_S = 200, 2_000, 2_000
CONFIG = "[steering.proximity]\nallow_documentation_prefixes = true\n"


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 2**30),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "polars": version("polars"),
        "broker": f"Apache Kafka {VERSION}, one node on the same machine",
    }


def bench_folder() -> Path:
    """What benchmarks keep between runs."""
    folder = demo_folder() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@asynccontextmanager
async def kafka(partitions: int, say: Say) -> AsyncIterator[tuple[BrokerSettings, Path]]:
    """One broker of Apache Kafka with all topics, and a folder; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=bench_folder()))
    broker = KafkaCluster(folder / "broker", progress=say)
    try:
        await asyncio.to_thread(broker.start)
        try:
            await create_topics(broker.settings, partitions)
            yield broker.settings, folder
        finally:
            await asyncio.to_thread(broker.stop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def running(
    name: str, args: Sequence[str], broker: BrokerSettings, folder: Path
) -> AsyncIterator[Child]:
    """`edgesteer ARGS --broker ...` as a process of its own; ended afterwards."""
    child = Child(name, [*args, "--broker", broker.bootstrap], folder / f"{name}.log")
    await child.start()
    try:
        yield child
    finally:
        await child.stop()


def worker_args(folder: Path, name: str = "bench") -> list[str]:
    """A real worker, as anybody starts it (the simulated networks include reserved ones)."""
    config = folder / "edgesteer.toml"
    config.write_text(CONFIG, encoding="utf-8")
    datadir = str(folder / f"{name}-data")
    return ["worker", "--name", name, "--datadir", datadir, "--config", str(config)]


def fleet_args(prefixes: int) -> list[str]:
    """The simulated fleet of one region, so of one busy cell."""
    sizes = ("--regions", 1, "--sites", SITES, "--appliances", APPLIANCES)
    return ["sim", "run", *map(str, (*sizes, "--prefixes", prefixes, "--rate", PLAYS_PER_S))]


async def until_up(fleet: Child, timeout_s: float = START_TIMEOUT_S) -> None:
    """The simulation says so when everything that is there at the start is published."""
    async with asyncio.timeout(timeout_s):
        while True:
            if "the fleet is up" in _text(fleet.log):
                return
            await asyncio.sleep(POLL_S)


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def is_steady(found: Sequence["Closed"]) -> bool:
    """The cell with the fleet has its table and keeps up: its last cuts took no more routes than a
    hundredth of its prefixes. (All prefixes are there before all of their routes.)"""
    full = [one for one in found if one.prefixes]
    if len(full) <= 3 or full[-1].closed_ms - full[-1].at_ms >= 1000:
        return False
    return all(100 * one.rows.get(BGP_ROUTES.name, 0) <= one.prefixes for one in full[-3:])


class Closed(NamedTuple):
    """What an Epoch says of its cut. `closed_ms`: when it was sent; `rows`: input topic -> rows,
    `refused` of all topics."""

    partition: int
    cut: int
    at_ms: int
    closed_ms: int
    rows: dict[str, int]
    refused: int
    notes: dict[str, int]
    prefixes: int


def closed(epoch: dict[str, Any]) -> Closed:
    """An Epoch record, in short."""
    return Closed(
        epoch["partition"],
        epoch["cut"],
        epoch["at_ms"],
        epoch["at_ms"] + epoch["behind_ms"],
        {each["topic"]: each["rows"] for each in epoch["inputs"]},
        sum(each["refused"] for each in epoch["inputs"]),
        {each["name"]: each["count"] for each in epoch["notes"]},
        epoch["prefixes"],
    )


async def epochs(
    broker: BrokerSettings,
    until: Callable[[list[Closed]], bool],
    child: Child,
    timeout_s: float,
) -> list[Closed]:
    """Every Epoch from the first on, until `until` holds of them. Raises BrokerError when `child`
    ends before that or the time is over."""
    found: list[Closed] = []
    ended = asyncio.create_task(child.wait())
    give_up = time.monotonic() + timeout_s
    try:
        async with TopicReader(broker, (STEERING_EPOCHS.name,)) as reader:
            await reader.from_begin()
            while not until(found):
                if ended.done() or time.monotonic() > give_up:
                    why = "has ended" if ended.done() else f"did not finish in {timeout_s:.0f} s"
                    raise BrokerError(f"{child.name} {why}:\n{_text(child.log)[-2000:]}")
                for records in (await reader.fetch()).values():
                    found += [closed(decode(record.value)[1]) for record in records]
                await asyncio.sleep(POLL_S)  # the benchmark must not take part in the race
    finally:
        ended.cancel()
    return found


def spread(values: Sequence[float] | npt.NDArray[np.float64]) -> dict[str, float]:
    """Median, p90, p99 and maximum, rounded."""
    found = np.percentile(np.asarray(values, dtype=np.float64), [50, 90, 99, 100])
    names = ("p50", "p90", "p99", "max")
    return {name: round(float(each), 1) for name, each in zip(names, found, strict=True)}
