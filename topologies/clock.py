"""The one place where the wall clock is read, and the rhythm of the ticks.

A reading counts only once it stands in a cut; everything computed takes its time from there.
"""

import asyncio
import time

TICK_MS = 1000


class Clock:
    """Wall clock and tick rhythm of one worker. Ticks of different cells are spread over the
    second, so that a worker's cells do not all step at once."""

    def __init__(self, tick_ms: int = TICK_MS) -> None:
        self.tick_ms = tick_ms

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def until_tick_s(self, partition: int, partitions: int) -> float:
        """Seconds until the next tick of `partition`: a multiple of the tick plus its share of
        it."""
        phase_ms = partition * self.tick_ms // partitions
        return (self.tick_ms - (self.now_ms() - phase_ms) % self.tick_ms) / 1000.0


async def wait_any(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait for `event` or the time; True when it was the event."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
