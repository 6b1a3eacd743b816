"""The running simulation: paces a World by the wall clock and publishes what happens in it.

The only place of this room that reads a clock or talks to a broker. Deadlines are absolute, so a
slow moment is caught up with and the rate holds; the records of a tick go out side by side, one
send per partition of a topic, and are counted when the broker has acknowledged them.
"""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pipeline.broker.settings import BrokerSettings
from pipeline.errors import UsageError
from pipeline.feeds.publisher import Publisher
from pipeline.sim.control import Handle, listen
from pipeline.sim.size import SimSize
from pipeline.sim.telemetry import Rows
from pipeline.sim.world import STEP_MS, World

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`duration_ms` None: until told to stop."""

    seed: int = 1
    size: SimSize = field(default_factory=SimSize)
    duration_ms: int | None = None


@dataclass(slots=True)
class Summary:
    """What a run came to. `produced`: records acknowledged per topic; `running_ms`: of the steady
    state; `behind_ms_max`: how far the simulation fell behind the clock at worst."""

    seed: int
    produced: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    running_ms: int = 0
    behind_ms_max: int = 0

    def as_json(self) -> dict[str, object]:
        """As the one object that a script reads."""
        return {
            "seed": self.seed,
            "produced": dict(sorted(self.produced.items())),
            "commands": self.commands,
            "running_ms": self.running_ms,
            "behind_ms_max": self.behind_ms_max,
        }


class Simulation:
    """One run. `summary` is true at any time, also after an error."""

    def __init__(self, broker: BrokerSettings, options: RunOptions, say: Say) -> None:
        self._broker, self._options, self._say = broker, options, say
        self.summary = Summary(options.seed)
        self._stop = asyncio.Event()
        self._sending = asyncio.Lock()

    def stop(self) -> None:
        """End the run after what is under way."""
        self._stop.set()

    async def run(self) -> Summary:
        """Publish the start, then live until the time is up or `stop`. Raises BrokerError."""
        world = World(self._options.seed, self._options.size, _now_ms())
        async with Publisher(self._broker) as publisher:
            await self._begin(world, publisher)
            listening = asyncio.Event()
            control = asyncio.create_task(
                listen(self._broker, self._obey(world, publisher), listening)
            )
            live = asyncio.create_task(self._live(world, publisher, listening))
            try:
                done, _ = await asyncio.wait((control, live), return_when="FIRST_COMPLETED")
                for task in done:
                    task.result()
            finally:
                for task in (live, control):
                    task.cancel()
                await asyncio.gather(live, control, return_exceptions=True)
        return self.summary

    async def _begin(self, world: World, publisher: Publisher) -> None:
        size = self._options.size
        self._say(
            f"seed {self._options.seed}: {size.regions} regions, {size.sites} sites, "
            f"{size.appliances} appliances, {size.prefixes:,} prefixes, {size.rate:,} plays/s"
        )
        began = time.monotonic()
        for what, stream in (("inventory", world.inventory()), ("routes", world.routes())):
            count = 0
            for rows in stream:
                if self._stop.is_set():
                    return
                await self._send(publisher, [rows])
                count += len(rows)
            self._say(f"published {count:,} records of {what}")
        world.skip_to(_now_ms())
        await self._send(publisher, world.roll_call())
        self._say(f"the fleet is up after {time.monotonic() - began:.1f} s")

    async def _live(self, world: World, publisher: Publisher, listening: asyncio.Event) -> None:
        await listening.wait()
        began_ms = world.now_ms
        ends_ms = None
        if self._options.duration_ms is not None:
            ends_ms = began_ms + self._options.duration_ms
        while not self._stop.is_set():
            due_ms = world.now_ms + STEP_MS
            if ends_ms is not None and due_ms > ends_ms:
                break
            await self._wait_until(due_ms)
            behind_ms = _now_ms() - due_ms
            self.summary.behind_ms_max = max(self.summary.behind_ms_max, behind_ms)
            # a few steps at a time, however far behind: memory stays bounded
            target_ms = due_ms + min(behind_ms // STEP_MS, 10) * STEP_MS
            async with self._sending:
                rows = world.tick(target_ms if ends_ms is None else min(target_ms, ends_ms))
                await self._send(publisher, rows)
            self.summary.running_ms = world.now_ms - began_ms

    async def _wait_until(self, due_ms: int) -> None:
        wait_s = (due_ms - _now_ms()) / 1000
        if wait_s <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._stop.wait()
        except TimeoutError:
            return

    def _obey(self, world: World, publisher: Publisher) -> Handle:
        async def obey(action: str, entity: str) -> None:
            async with self._sending:
                try:
                    rows = world.command(action, entity)
                except UsageError as error:
                    self._say(f"ignored: {error}")
                    return
                await self._send(publisher, rows)
            self.summary.commands += 1
            self._say(f"{action.lower()} {entity}: {sum(map(len, rows))} health reports")

        return obey

    async def _send(self, publisher: Publisher, batches: Iterable[Rows]) -> None:
        """Send side by side, in order within a partition; count what was acknowledged."""
        merged: dict[tuple[str, int], Rows] = {}
        for rows in batches:
            place = (rows.topic, publisher.partition(rows.topic, rows.region))
            if place in merged:
                merged[place].keys.extend(rows.keys)
                merged[place].values.extend(rows.values)
            else:
                merged[place] = rows

        async def send(place: tuple[str, int], rows: Rows) -> None:
            await publisher.send_rows(*place, rows.keys, rows.values)
            self.summary.produced[place[0]] += len(rows)

        await asyncio.gather(*(send(place, rows) for place, rows in merged.items()))


@asynccontextmanager
async def stopped_by_signals(stop: Callable[[], None]) -> AsyncIterator[None]:
    """Within: SIGINT and SIGTERM call `stop`."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for each in signals:
        loop.add_signal_handler(each, stop)
    try:
        yield
    finally:
        for each in signals:
            loop.remove_signal_handler(each)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
