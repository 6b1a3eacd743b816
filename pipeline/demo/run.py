"""The demo: a broker, its topics, two workers and a simulated fleet, from nothing to a live view.

Everything that it starts it ends, in the order that loses nothing: the fleet first, then, when
every record it produced is accounted for, the workers, the broker last.
"""

import asyncio
import math
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.broker.embedded import EmbeddedBroker
from pipeline.broker.kafka import KafkaCluster, fetch_jars
from pipeline.broker.longpoll import pause_empty_fetches
from pipeline.broker.running import (
    RunningBroker,
    announce,
    demo_folder,
    is_running,
    withdraw,
)
from pipeline.broker.settings import BrokerSettings
from pipeline.broker.topics import create_topics
from pipeline.demo.account import Balance
from pipeline.demo.children import Child, Supervisor
from pipeline.errors import WireError
from pipeline.wire.decode import decode
from schemas.registry import (
    APPLIANCE_HEALTH,
    INPUTS,
    LB_WEIGHTS,
    STEERING_DEAD_LETTERS,
    STEERING_EPOCHS,
    STEERING_VERDICTS,
)

WATCHED = (STEERING_EPOCHS, STEERING_VERDICTS, STEERING_DEAD_LETTERS, LB_WEIGHTS, APPLIANCE_HEALTH)
ORDERLY = (0, -signal.SIGTERM)  # the second: told to end before it was up
#: Of the fleet, which is told to end as by Ctrl-C: the others before it was up.
FLEET_ORDERLY = (0, 128 + signal.SIGINT, -signal.SIGINT)
START_S = 180.0  # how long the first record may take to be folded, where the demo has an end
SETTLE_S = 20.0  # for how long nothing may be accounted for while something is left
CONFIG = "[steering.proximity]\nallow_documentation_prefixes = true\n"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to show. `seconds`: from the first record folded on; None: until Ctrl-C."""

    broker: Literal["embedded", "kafka"] = "embedded"
    seconds: float | None = None
    workers: int = 2
    partitions: int = 8
    sim_args: tuple[str, ...] = ()


class View(Protocol):
    """Who watches: a live terminal, or plain lines."""

    def progress(self, text: str) -> None: ...
    def apply(self, topic: str, partition: int, record: dict[str, Any]) -> None: ...
    def refresh(self) -> None: ...


@dataclass(slots=True)
class Outcome:
    """How it ended: the balance, and what went wrong if anything did."""

    summary: dict[str, Any]
    problems: list[str] = field(default_factory=list)


async def run_demo(options: DemoOptions, view: View) -> Outcome:
    """Run until the time is over or a signal comes. Raises BrokerError when no broker starts."""
    folder = _own_folder()
    stop = _stop_signal()
    try:
        async with _broker(options, folder, view) as settings:
            return await _run_on(settings, options, folder, view, stop)
    finally:
        withdraw(os.getpid())
        shutil.rmtree(folder / "broker", ignore_errors=True)


def _own_folder() -> Path:
    """A folder of this process; what demos that are over have left (their logs) goes away."""
    for old in demo_folder().glob("demo-*"):
        if not is_running(int(old.name.removeprefix("demo-"))):
            shutil.rmtree(old, ignore_errors=True)
    folder = demo_folder() / f"demo-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@asynccontextmanager
async def _broker(options: DemoOptions, folder: Path, view: View) -> AsyncIterator[BrokerSettings]:
    data = folder / "broker"
    data.mkdir()
    broker: EmbeddedBroker | KafkaCluster
    if options.broker == "embedded":
        broker = EmbeddedBroker(data)
    else:
        await asyncio.to_thread(fetch_jars, view.progress)
        broker = KafkaCluster(data)
    view.progress(f"starting the broker ({broker.kind})")
    await asyncio.to_thread(broker.start)
    try:
        yield broker.settings
    finally:
        await asyncio.to_thread(broker.stop)


async def _run_on(
    settings: BrokerSettings,
    options: DemoOptions,
    folder: Path,
    view: View,
    stop: asyncio.Future[None],
) -> Outcome:
    view.progress(f"creating topics, {options.partitions} partitions")
    await create_topics(settings, options.partitions)
    announce(RunningBroker(settings.bootstrap, os.getpid(), options.broker))
    workers = Supervisor(_workers(settings, options, folder), view.progress)
    fleet = _fleet(settings, options, folder)
    view.progress(f"starting {options.workers} workers and the simulated fleet")
    balance, problems = Balance(), list[str]()
    watch = asyncio.create_task(_watch(settings, options.partitions, view, balance))
    try:
        await workers.start()
        await fleet.start()
        view.progress(f"running on the {options.broker} broker; Ctrl-C ends it")
        problems += await _until_over(options.seconds, stop, watch, fleet, view, balance)
        view.progress("stopping the fleet, waiting until everything is accounted for")
        status = await fleet.stop(signal.SIGINT)
        if status not in FLEET_ORDERLY and not problems:
            problems.append(f"the simulated fleet ended with status {status} (log: {fleet.log})")
        produced = await _settle(settings, options.partitions, balance, watch)
    finally:
        await fleet.stop()
        statuses = await workers.stop()
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
    problems += [f"a worker ended with status {one}" for one in statuses if one not in ORDERLY]
    if workers.restarts:
        problems.append(f"workers had to be restarted {workers.restarts} times")
    summary = balance.summary(produced)
    if summary["unaccounted"]:
        problems.append(f"{summary['unaccounted']} records are unaccounted for")
    return Outcome(summary, problems)


def _workers(settings: BrokerSettings, options: DemoOptions, folder: Path) -> list[Child]:
    config = folder / "edgesteer.toml"
    config.write_text(CONFIG, encoding="utf-8")
    children = []
    for number in range(options.workers):
        name = f"demo-{number}"
        args = ["worker", "--broker", settings.bootstrap, "--name", name, "--config", str(config)]
        args += ["--datadir", str(folder / name)]
        if options.broker == "embedded":
            args.append("--static-member")
        children.append(Child(name, args, folder / f"{name}.log"))
    return children


def _fleet(settings: BrokerSettings, options: DemoOptions, folder: Path) -> Child:
    args = ["sim", "run", "--json", "--broker", settings.bootstrap, *options.sim_args]
    return Child("fleet", args, folder / "fleet.log")


async def _until_over(
    seconds: float | None,
    stop: asyncio.Future[None],
    watch: asyncio.Task[None],
    fleet: Child,
    view: View,
    balance: Balance,
) -> list[str]:
    """Wait for the time, which counts from when there is something to see, for a signal, or for the
    end of something that should not end: its problem."""
    fleet_ended = asyncio.create_task(fleet.wait())
    waited: set[asyncio.Future[Any]] = {stop, watch, fleet_ended}
    begun, deadline = False, math.inf if seconds is None else time.monotonic() + START_S
    try:
        while time.monotonic() < deadline:
            done, _ = await asyncio.wait(waited, timeout=0.25, return_when=asyncio.FIRST_COMPLETED)
            view.refresh()
            if watch in done:
                return [f"the view lost the broker: {watch.exception()!r}"]
            if fleet_ended in done:
                status = fleet_ended.result()
                return [f"the simulated fleet ended with status {status} ({fleet.log})"]
            if stop in done:
                return []
            if seconds is not None and not begun and balance.folded:
                begun, deadline = True, time.monotonic() + seconds
    finally:
        fleet_ended.cancel()
    return [] if begun else [f"nothing was folded within {START_S:.0f} s ({fleet.log.parent})"]


async def _settle(
    settings: BrokerSettings, partitions: int, balance: Balance, watch: asyncio.Task[None]
) -> int:
    """Wait until the Epochs account for every input record; how many there are."""
    before, deadline = -1, 0.0
    while True:
        produced = await _produced(settings, partitions)
        accounted = balance.folded + balance.refused
        if accounted > before:
            before, deadline = accounted, time.monotonic() + SETTLE_S
        if accounted >= produced or watch.done() or time.monotonic() > deadline:
            return produced
        await asyncio.sleep(0.2)


async def _produced(settings: BrokerSettings, partitions: int) -> int:
    """Records in all input topics. (They begin at offset 0: the broker is as old as the demo.)"""
    consumer = AIOKafkaConsumer(**settings.client_kwargs())
    await consumer.start()
    try:
        every = [TopicPartition(t.name, p) for t in INPUTS for p in range(partitions)]
        return sum((await consumer.end_offsets(every)).values())
    finally:
        await consumer.stop()


async def _watch(settings: BrokerSettings, partitions: int, view: View, balance: Balance) -> None:
    """Feed the view and the balance with what the plane publishes, for ever."""
    consumer = AIOKafkaConsumer(
        **settings.client_kwargs(), auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        pause_empty_fetches(consumer)
        consumer.assign([TopicPartition(t.name, p) for t in WATCHED for p in range(partitions)])
        while True:
            fetched = await consumer.getmany(timeout_ms=250)
            for tp, records in fetched.items():
                for record in records:
                    _show(tp, record.value, view, balance)
    finally:
        await consumer.stop()


def _show(tp: TopicPartition, value: bytes | None, view: View, balance: Balance) -> None:
    try:
        _, record = decode(value or b"")
    except WireError:
        return  # a dead letter tells of it
    if tp.topic == STEERING_EPOCHS.name:
        balance.add(record)
    view.apply(tp.topic, tp.partition, record)


def _stop_signal() -> asyncio.Future[None]:
    """Done at the first SIGINT, SIGTERM or SIGHUP."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal() -> None:
        if not stop.done():
            stop.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    return stop
