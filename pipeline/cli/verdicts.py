"""`edgesteer verdicts`: every change of mind, with its reason."""

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
from schemas.registry import STEERING_VERDICTS

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.cli.stream import Shown


@asks_broker
def command(
    broker: "BrokerSettings",
    last: LastOption = 20,
    follow: FollowOption = False,
    entity: Annotated[
        str | None, typer.Option(help="Only of this appliance, site, link or table.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """The newest changes of mind: what changed, from what to what, and why."""
    run_async(_show(broker, last, follow, entity, json))


async def _show(
    broker: "BrokerSettings", last: int, follow: bool, entity: str | None, json: bool
) -> None:
    from pipeline.cli.stream import stream

    def wanted(one: "Shown") -> bool:
        verdict = one.value or {}
        return one.record == "Verdict" and entity in (None, verdict["entity"])

    async for one in stream(broker, STEERING_VERDICTS.name, last=last, follow=follow, keep=wanted):
        verdict = one.value or {}
        if json:
            emit({"partition": one.partition, "at": iso(verdict["at_ms"]), **verdict})
            continue
        change = f"{verdict['from_state'] or '-'} -> {verdict['to_state'] or '-'}"
        detail = f"  {verdict['detail']}" if verdict["detail"] else ""
        say(
            f"{iso(verdict['at_ms'])}  cut {one.partition}/{verdict['cut']:<7} "
            f"{verdict['kind']:<9} {verdict['entity']:<24} {change:<24} "
            f"{verdict['reason']}{detail}"
        )
