"""`edgesteer tail`: the records of any topic, decoded."""

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import (
    FollowOption,
    JsonOption,
    LastOption,
    asks_broker,
    emit,
    iso,
    parse_time_ms,
    run_async,
    say,
)
from pipeline.errors import UsageError
from schemas.registry import BY_NAME

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings


@asks_broker
def command(
    broker: "BrokerSettings",
    topic: Annotated[
        str, typer.Argument(help="One of the plane's topics: `edgesteer topics check`.")
    ],
    last: LastOption = 10,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="All from then on: ISO 8601, now, -40s, -2h."),
    ] = None,
    follow: FollowOption = False,
    json: JsonOption = False,
) -> None:
    """The newest records of a topic, decoded; what does not decode is shown as that."""
    if topic not in BY_NAME:
        near = get_close_matches(topic, BY_NAME, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(BY_NAME)}"
        raise UsageError(f"no topic {topic!r}; {hint}")
    from_ms = None if since is None else parse_time_ms(since)
    run_async(_show(broker, topic, last, from_ms, follow, json))


async def _show(
    broker: "BrokerSettings", topic: str, last: int, from_ms: int | None, follow: bool, json: bool
) -> None:
    import orjson

    from pipeline.cli.stream import stream

    async for one in stream(broker, topic, last=last, from_ms=from_ms, follow=follow):
        if json:
            emit({**one._asdict(), "at": iso(one.at_ms)})
            continue
        value = "" if one.value is None else " " + orjson.dumps(one.value).decode()
        say(f"{iso(one.at_ms)}  {one.partition}:{one.offset}  {one.key}  {one.record}{value}")
