"""Reading a topic for a person: the last few records, or from a time on, and then what comes."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from pipeline.broker.settings import BrokerSettings
from pipeline.cli.render import show_key, show_value
from pipeline.follow.reader import Fetched, TopicReader

_WINDOW_FACTOR = 8


class Shown(NamedTuple):
    """One record, ready to be shown. `at_ms`: when the broker or its producer stamped it; `record`:
    name of the record, `tombstone` or `undecodable`."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    key: str | None
    record: str
    value: dict[str, Any] | None


Keep = Callable[[Shown], bool]


def _shown(topic: str, record: Any) -> Shown:
    name, value = show_value(record.value)
    key = show_key(topic, record.key)
    return Shown(topic, record.partition, record.offset, record.timestamp, key, name, value)


def _in_order(fetched: Fetched) -> list[Shown]:
    each = (_shown(tp.topic, record) for tp, records in fetched.items() for record in records)
    return sorted(each, key=lambda one: (one.at_ms, one.partition, one.offset))


async def newest(
    reader: TopicReader, enough: Callable[[Sequence[Shown]], bool], window: int
) -> list[Shown]:
    """The records before the end: `window` of each partition, then more and more until there are
    `enough` or no older ones (compaction and filters leave fewer than the offsets promise). The
    reader stands behind the last of them."""
    begins, ends = await reader.begins(), await reader.ends()
    while True:
        starts = {each: max(begins[each], end - window) for each, end in ends.items()}
        reader.seek(starts)
        found: list[Shown] = []
        async for fetched in reader.until(ends):
            found.extend(_in_order(fetched))
        if enough(found) or starts == begins:
            return sorted(found, key=lambda one: (one.at_ms, one.partition, one.offset))
        window *= _WINDOW_FACTOR


async def stream(
    broker: BrokerSettings,
    topic: str,
    *,
    last: int,
    from_ms: int | None = None,
    follow: bool = False,
    keep: Keep = lambda _: True,
) -> AsyncIterator[Shown]:
    """Records of one topic that `keep` wants: the newest `last`, or all from `from_ms` on; then,
    with `follow`, what comes, for ever."""
    async with TopicReader(broker, [topic]) as reader:
        if from_ms is None:
            found = await newest(reader, lambda some: sum(map(keep, some)) >= last, last)
            kept = list(filter(keep, found))
            for one in kept[max(len(kept) - last, 0) :]:
                yield one
        else:
            await reader.from_time(from_ms)
            async for fetched in reader.until(await reader.ends()):
                for one in filter(keep, _in_order(fetched)):
                    yield one
        while follow:
            for one in filter(keep, _in_order(await reader.fetch())):
                yield one
