import asyncio
from types import SimpleNamespace
from typing import Any

from pipeline.broker.longpoll import pause_empty_fetches


def patched(got_records: bool) -> Any:
    async def fetch(*_: Any) -> bool:
        return got_records

    consumer = SimpleNamespace(_fetcher=SimpleNamespace(_proc_fetch_request=fetch))
    pause_empty_fetches(consumer)
    return consumer._fetcher._proc_fetch_request


async def test_a_fetch_that_is_cancelled_in_its_pause_ends_as_the_original_does() -> None:
    """aiokafka cancels and awaits its fetches on close and rebalance, expecting no exception."""
    fetch = asyncio.create_task(patched(got_records=False)())
    await asyncio.sleep(0)
    fetch.cancel()
    assert await fetch is False


async def test_what_the_fetch_says_is_passed_on() -> None:
    assert await patched(got_records=True)() is True
    assert await patched(got_records=False)() is False
