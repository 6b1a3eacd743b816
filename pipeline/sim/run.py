"""The running simulation: paces a World by the wall clock and publishes what happens in it.

The only place of this room that reads a clock. Deadlines are absolute, so that a slow moment is
caught up with and the rate holds. Commands act between two ticks and their reports go out at once.
"""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import KafkaError

from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError, UsageError
from pipeline.follow.follower import Follower
from pipeline.follow.table import Applied
from pipeline.sim.control import Handle, listen
from pipeline.sim.outlet import Outlet
from pipeline.sim.published import Published
from pipeline.sim.size import SimSize
from pipeline.sim.world import STEP_MS, World

Say = Callable[[str], None]
_PATIENCE_S = 5.0  # with a broker that does not answer, when told to stop
_STEPS_AT_ONCE = 10  # however far behind: memory stays bounded, and a stop is heard


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`duration_ms` None: until told to stop. `dirt`: bad records for each good one. `follow`:
    viewers go where the published table says, not where the world itself would send them."""

    seed: int = 1
    size: SimSize = field(default_factory=SimSize)
    duration_ms: int | None = None
    dirt: float = 0.0
    follow: bool = False


@dataclass(slots=True)
class Summary:
    """What a run came to. `produced`: records acknowledged per topic, the dirt among them; `dirt`:
    bad records by kind; `running_ms`: of the steady state; `behind_ms_max`: behind the clock."""

    seed: int
    produced: Counter[str]
    dirt: Counter[str]
    commands: int = 0
    running_ms: int = 0
    behind_ms_max: int = 0

    def as_json(self) -> dict[str, object]:
        """As the one object that a script reads."""
        return {
            "seed": self.seed,
            "produced": dict(sorted(self.produced.items())),
            "dirt": dict(sorted(self.dirt.items())),
            "commands": self.commands,
            "running_ms": self.running_ms,
            "behind_ms_max": self.behind_ms_max,
        }


class Simulation:
    """One run. `summary` is true at any time, also after an error."""

    def __init__(self, broker: BrokerSettings, options: RunOptions, say: Say) -> None:
        self._broker, self._options, self._say = broker, options, say
        self._outlet = Outlet(broker, options.seed, options.dirt)
        self.summary = Summary(options.seed, self._outlet.produced, self._outlet.soiled)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """End the run after what is under way."""
        self._stop.set()

    async def run(self) -> None:
        """Publish the start, then live until the time is up or `stop`. Raises BrokerError."""
        world = World(self._options.seed, self._options.size, _now_ms())
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._outlet)
            await self._begin(world)
            if self._stop.is_set():
                return
            if self._options.follow:
                await self._follow(world, stack)
            listening = asyncio.Event()
            control = asyncio.create_task(listen(self._broker, self._obey(world), listening))
            live = asyncio.create_task(self._live(world, listening))
            stopped = asyncio.create_task(self._stop.wait())
            tasks: tuple[asyncio.Task[Any], ...] = (live, control, stopped)
            try:
                done, _ = await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
                if stopped in done and not (await asyncio.wait((live,), timeout=_PATIENCE_S))[0]:
                    raise BrokerError("the broker did not acknowledge the last records")
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self, world: World) -> None:
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
                count += len(rows)
                await self._outlet.send([rows])
            self._say(f"published {count:,} records of {what}")
        world.skip_to(_now_ms())
        await self._outlet.send(world.roll_call())
        self._say(f"the fleet is up after {time.monotonic() - began:.1f} s")

    async def _follow(self, world: World, stack: AsyncExitStack) -> None:
        async def stepped(step: Applied) -> None:
            if step.mismatch is not None:
                self._say(f"viewers follow a mixture: {step.mismatch}")
            published.stepped()

        follower = Follower(self._broker, stepped)
        regions = [area.id for area in world.ground.regions]
        published = Published(follower.table, world.plant.names, regions)
        await stack.enter_async_context(follower)
        world.follow(published)

    async def _live(self, world: World, listening: asyncio.Event) -> None:
        await listening.wait()
        world.skip_to(_now_ms())
        began_ms, duration_ms = world.now_ms, self._options.duration_ms
        ends_ms = None if duration_ms is None else began_ms + duration_ms
        while not self._stop.is_set():
            due_ms = world.now_ms + STEP_MS
            if ends_ms is not None and due_ms > ends_ms:
                return
            await self._wait_until(due_ms)
            behind_ms = max(_now_ms() - due_ms, 0)
            self.summary.behind_ms_max = max(self.summary.behind_ms_max, behind_ms)
            target_ms = due_ms + min(behind_ms // STEP_MS, _STEPS_AT_ONCE) * STEP_MS
            await self._outlet.send(
                world.tick(target_ms if ends_ms is None else min(target_ms, ends_ms))
            )
            self.summary.running_ms = world.now_ms - began_ms

    async def _wait_until(self, due_ms: int) -> None:
        wait_s = (due_ms - _now_ms()) / 1000
        if wait_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stop.wait()

    def _obey(self, world: World) -> Handle:
        async def obey(action: str, entity: str) -> None:
            try:
                rows = world.command(action, entity)
            except UsageError as error:
                self._say(f"ignored: {error}")
                return
            self._say(f"{action.lower()} {entity}")
            await self._outlet.send(rows)
            self.summary.commands += 1

        return obey


@asynccontextmanager
async def stopped_by_signals(stop: Callable[[], None]) -> AsyncIterator[None]:
    """Within: SIGINT and SIGTERM call `stop`, and what aiokafka leaves behind when a broker goes
    away is not told twice."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for each in signals:
        loop.add_signal_handler(each, stop)
    loop.set_exception_handler(_unless_kafka)
    try:
        yield
    finally:
        for each in signals:
            loop.remove_signal_handler(each)


def _unless_kafka(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A batch that failed leaves a waiter with the same error, which nobody waits for."""
    if not isinstance(context.get("exception"), KafkaError):
        loop.default_exception_handler(context)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
