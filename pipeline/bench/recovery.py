"""The `recovery` benchmark: how long a cell is silent when its worker dies, and when it leaves.

One broker, one busy cell (one region of four partitions) with 2,000 appliances and a million
prefixes, two workers, and `edgesteer sim run`, which reports all the while. A kill: kill -9 of the
worker that leads the cell; the clock starts there and stops when a reader in this process has the
next Epoch of the cell, which only the other worker can have written (its term is a later one). The
killed worker is started again, a new snapshot is awaited and a number of cuts behind it, another
each time, and the next is killed. Then hand-overs: the same with SIGTERM.

The value is the slowest of all kills. The parts of each are told by the log lines of the worker
that takes over; what nothing can shorten but the setting is the session time-out, after which the
broker gives up on a member that is silent.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pipeline.bench.common import (
    APPLIANCES,
    POLL_S,
    START_TIMEOUT_S,
    Say,
    epochs,
    fleet_args,
    is_steady,
    kafka,
    machine,
    running,
    until_up,
    worker_args,
)
from pipeline.broker.settings import BrokerSettings
from pipeline.demo.children import Child
from pipeline.errors import BrokerError
from pipeline.follow.reader import TopicReader
from pipeline.wire.decode import decode
from schemas.registry import STEERING_CUTS, STEERING_EPOCHS
from topologies.app import SESSION_TIMEOUT_S

PARTITIONS = 4
PREFIXES = 1_000_000
KILLS, HANDOVERS = 5, 3
WORKERS = ("a", "b")
#: Cuts that the one who takes over finds behind the snapshot, in turn (one is due every 60).
CUTS_BEHIND = (5, 45, 25)
RUN_TIMEOUT_S, SNAPSHOT_TIMEOUT_S = 60.0, 240.0
#: What ends each part of a take-over: a line of the log. After the last comes `take_over`: own cut,
#: reconciling, the first Epoch.
PARTS = {
    "noticed": "rebalance begins",
    "rebalance": "rebalance decided",
    "table_recovery": "restoring cells",
    "restore": "given cells",
    "fold": "caught up",
}


async def run(
    say: Say, kills: int = KILLS, handovers: int = HANDOVERS, prefixes: int = PREFIXES
) -> dict[str, Any]:
    """So many kills, then so many hand-overs. Raises BrokerError when something ends or hangs."""
    async with kafka(PARTITIONS, say) as (broker, folder):
        commands = {name: [*worker_args(folder, name), "--log-json"] for name in WORKERS}
        async with (
            running("fleet", fleet_args(prefixes), broker, folder) as fleet,
            contextlib.AsyncExitStack() as stack,
        ):
            await until_up(fleet)
            workers = {}
            for name, command in commands.items():
                say(f"{prefixes:,} prefixes: worker {name} starts ...")
                child = running(name, command, broker, folder)
                workers[name] = await stack.enter_async_context(child)
                began = await epochs(broker, is_steady, workers[name], START_TIMEOUT_S)
            cell = max(began, key=lambda one: one.prefixes)
            async with Plane(broker, cell.partition, workers) as plane:
                killed = await _each(plane, signal.SIGKILL, kills, say)
                left = await _each(plane, signal.SIGTERM, handovers, say)
    return summary(killed, left)


@dataclass(frozen=True, slots=True)
class Taken:
    """One take-over. `silent_s`: the longest time between two Epochs, by their time stamps;
    `parts_s`: by name; `cuts`: folded behind the snapshot; `prefixes`: that the cell has."""

    seconds: float
    silent_s: float
    cuts: int
    prefixes: int
    parts_s: dict[str, float]


async def _each(plane: "Plane", how: signal.Signals, count: int, say: Say) -> list[Taken]:
    found = []
    for number in range(count):
        behind = CUTS_BEHIND[number % len(CUTS_BEHIND)]
        await plane.until_behind(behind)
        found.append(await plane.replace_leader(how))
        say(f"{how.name} {number + 1} of {count}: {found[-1].seconds:.2f} s")
    return found


def summary(killed: Sequence[Taken], left: Sequence[Taken]) -> dict[str, Any]:
    """The result, of all that was measured."""
    worst = max(killed, key=lambda one: one.seconds)
    return {
        "name": "recovery",
        "value": round(worst.seconds, 2),
        "unit": "s",
        "ratios": {},
        "detail": {
            "machine": machine(),
            "appliances": APPLIANCES,
            "prefixes": min(one.prefixes for one in (*killed, *left)),
            "session_timeout_s": SESSION_TIMEOUT_S,
            "beyond_session_timeout_s": round(worst.seconds - SESSION_TIMEOUT_S, 2),
            "kill": _described(killed),
            "hand_over": _described(left),
        },
    }


def _described(taken: Sequence[Taken]) -> dict[str, Any]:
    return {
        "each_s": [round(one.seconds, 2) for one in taken],
        "silent_each_s": [round(one.silent_s, 2) for one in taken],
        "cuts_folded": [one.cuts for one in taken],
        **{
            f"{part}_s": [round(one.parts_s[part], 2) for one in taken]
            for part in (*PARTS, "take_over")
        },
    }


class Said(NamedTuple):
    """An Epoch of the cell. `sent_ms`: by the broker's clock; `seen_s`: by this process's;
    `prefixes`: that the cell has."""

    cut: int
    term: int
    sent_ms: int
    seen_s: float
    prefixes: int


class Plane:
    """Async context manager: the workers of the cell, and what it publishes as it is read."""

    def __init__(self, broker: BrokerSettings, partition: int, workers: dict[str, Child]) -> None:
        self._broker, self._partition, self._workers = broker, partition, workers
        self._leader = ""
        self._last = self._first = Said(0, 0, 0, 0.0, 0)  # Epoch, and the first of its term
        self._silent_ms = 0  # longest time between two Epochs since this was set to 0
        self._joined_from = dict.fromkeys(workers, 0)  # of the log: where the process began
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Plane":
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *error: Any) -> None:
        assert self._reading is not None
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        topics = (STEERING_CUTS.name, STEERING_EPOCHS.name)
        async with TopicReader(self._broker, topics, only=[self._partition]) as reader:
            await reader.from_begin()
            while True:
                for partition, records in (await reader.fetch()).items():
                    for record in records:
                        self._take(partition.topic, record)

    def _take(self, topic: str, record: Any) -> None:
        _, fields = decode(record.value)
        if topic == STEERING_CUTS.name:
            self._leader = fields["writer"]
            return
        cut, term, prefixes = fields["cut"], fields["term"], fields["prefixes"]
        said = Said(cut, term, record.timestamp, time.time(), prefixes)
        self._silent_ms = max(self._silent_ms, said.sent_ms - self._last.sent_ms)
        if said.term > self._last.term:
            self._first = said
        self._last = said

    async def until(self, holds: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait until `holds`; it is asked again and again. Raises BrokerError."""
        assert self._reading is not None
        give_up = time.monotonic() + timeout_s
        while not holds():
            if self._reading.done():
                self._reading.result()
            if time.monotonic() > give_up:
                raise BrokerError(f"no {what} in {timeout_s:.0f} s")
            await asyncio.sleep(POLL_S)

    async def until_behind(self, cuts: int) -> None:
        """Until both workers have cells, a snapshot was written since, and so many cuts lie behind
        it."""
        await self.until(self._both_joined, RUN_TIMEOUT_S, "second worker")
        joined = self._last.cut
        await self.until(
            lambda: joined < self._snapshot_cut() <= self._last.cut - cuts,
            SNAPSHOT_TIMEOUT_S,
            "snapshot",
        )

    def _both_joined(self) -> bool:
        logs = ((self._workers[name].log, mark) for name, mark in self._joined_from.items())
        return self._last.cut > 0 and all(lines(*one, "given cells", None) for one in logs)

    def _snapshot_cut(self) -> int:
        """Cut of the newest snapshot."""
        logs = [worker.log for worker in self._workers.values()]
        found = [lines(log, 0, "snapshot written", self._partition) for log in logs]
        return max((line["cut"] for each in found for line in each), default=0)

    async def replace_leader(self, how: signal.Signals) -> Taken:
        """End the leader with this signal, wait for the other's first Epoch, start it again."""
        leader, term = self._workers[self._leader], self._last.term
        (other,) = (each for name, each in self._workers.items() if name != self._leader)
        mark = other.log.stat().st_size
        self._silent_ms, began = 0, time.time()
        ending = asyncio.create_task(leader.stop(how))
        await self.until(lambda: self._last.term > term, RUN_TIMEOUT_S, "Epoch of the other worker")
        await ending
        taken = Taken(
            self._first.seen_s - began,
            self._silent_ms / 1000,
            lines(other.log, mark, "caught up", self._partition)[-1]["cuts"],
            self._first.prefixes,
            parts_of(other.log, mark, self._partition, began, self._first.seen_s),
        )
        self._joined_from[leader.name] = leader.log.stat().st_size
        await leader.start()
        return taken


def parts_of(
    log: Path, mark: int, partition: int, began_s: float, ended_s: float
) -> dict[str, float]:
    """How long each part of a take-over took, by what the log says from byte `mark` on."""
    parts, before = {}, began_s
    for part, event in PARTS.items():
        said = lines(log, mark, event, partition)[-1]["timestamp"]
        at = datetime.fromisoformat(said).timestamp()
        parts[part], before = at - before, at
    return {**parts, "take_over": ended_s - before}


def lines(log: Path, mark: int, event: str, partition: int | None) -> list[dict[str, Any]]:
    """What the log says of `event` from byte `mark` on, of this partition where it names one."""
    said = [orjson.loads(line) for line in log.read_bytes()[mark:].splitlines() if line[:1] == b"{"]
    return [
        line
        for line in said
        if line["event"] == event and line.get("partition", partition) == partition
    ]
