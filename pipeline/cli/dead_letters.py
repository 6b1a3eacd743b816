"""`edgesteer dead-letters`: what was refused, and why."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import (
    FollowOption,
    JsonOption,
    LastOption,
    asks_broker,
    emit,
    iso,
    run_async,
    say,
)
from pipeline.errors import UsageError
from pipeline.reasons import Refusal
from schemas.registry import STEERING_DEAD_LETTERS

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.cli.stream import Shown

_BYTES_SHOWN = 16


@asks_broker
def command(
    broker: "BrokerSettings",
    last: LastOption = 20,
    follow: FollowOption = False,
    reason: Annotated[str | None, typer.Option(help="Only what was refused for this.")] = None,
    json: JsonOption = False,
) -> None:
    """The newest refused records: where each stands, why, and how it begins."""
    if reason is not None and reason not in set(Refusal):
        raise UsageError(f"no reason {reason!r}; there are {', '.join(sorted(Refusal))}")
    run_async(_show(broker, last, follow, reason, json))


async def _show(
    broker: "BrokerSettings", last: int, follow: bool, reason: str | None, json: bool
) -> None:
    from pipeline.cli.stream import stream

    def wanted(one: "Shown") -> bool:
        letter = one.value or {}
        return one.record == "DeadLetter" and reason in (None, letter["reason"])

    async for one in stream(
        broker, STEERING_DEAD_LETTERS.name, last=last, follow=follow, keep=wanted
    ):
        letter = one.value or {}
        if json:
            emit({"at": iso(letter["at_ms"]), **letter})
            continue
        place = f"{letter['topic']} {letter['partition']}:{letter['offset']}"
        many = f" and {letter['count'] - 1} more" if letter["count"] > 1 else ""
        begins = letter["record"][: 2 * _BYTES_SHOWN]
        more = "..." if len(letter["record"]) > len(begins) else ""
        detail = f"  {letter['detail']}" if letter["detail"] else ""
        say(
            f"{iso(letter['at_ms'])}  {place + many:<40} {letter['reason']:<20} "
            f"{begins}{more}{detail}"
        )
