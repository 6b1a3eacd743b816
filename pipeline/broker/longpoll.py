"""Patience for brokers without long poll.

Apache Kafka holds an empty fetch until records come or half a second and more has passed; the
embedded broker answers it at once, so that every idle consumer spins (7,000 fetches/s, 80 % of a
core). A short pause after an empty answer that came too soon makes that 392/s and 8 % of a core,
and raises the median of a hop from 0.4 to 1.8 ms (docs/adr/0018). On a broker with long poll the
pause never happens.
"""

import asyncio
from contextlib import suppress
from typing import Any

PAUSE_S = 0.002


def pause_empty_fetches(consumer: Any) -> None:
    """Patch the fetcher of one started `AIOKafkaConsumer` (private API of the pinned aiokafka)."""
    fetcher = consumer._fetcher
    original = fetcher._proc_fetch_request

    async def patient(*args: Any, **kwargs: Any) -> bool:
        loop = asyncio.get_running_loop()
        began = loop.time()
        got_records = bool(await original(*args, **kwargs))
        if not got_records and loop.time() - began < 5 * PAUSE_S:
            # Like the original: cancelled (closing, partition taken away) means no longer of
            # interest. Whoever cancels awaits this and is not prepared for the exception.
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(PAUSE_S)
        return got_records

    fetcher._proc_fetch_request = patient
