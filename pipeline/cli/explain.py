"""`edgesteer explain`: what an address was answered at a moment, why, and which records say so."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import (
    JsonOption,
    emit,
    may_take_broker,
    note,
    parse_time_ms,
    progress_line,
)
from pipeline.cli.logfile import fetched_log
from pipeline.cli.who import TrafficClass
from pipeline.errors import UsageError, WireError

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.replay.explanation import Explanation

#: Without a recording so much of the log is read from before the time asked for, and from the
#: snapshot before that where there is one.
LOOK_BACK_MS = 3_600_000


@may_take_broker
def command(
    broker: "Callable[[], BrokerSettings]",
    address: Annotated[str, typer.Argument(help="A client's address, IPv4 or IPv6.")],
    file: Annotated[
        Path | None, typer.Argument(help="A recording; without one the broker's log.")
    ] = None,
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="ISO 8601, now, -40s, -2h.")
    ] = "now",
    traffic_class: Annotated[
        TrafficClass, typer.Option("--class", help="Class of traffic.")
    ] = TrafficClass.VOD,
    region: Annotated[
        str | None,
        typer.Option(help="As this region saw it (and of the broker only its cell); else all."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Every move since then; else the last one."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """What the plane answered a client at a moment, why, and who moved it there.

    Folds the log up to the last cut at or before --at and names the records that each statement
    rests on, as topic/partition@offset. Status 1 when nothing was answered. Nothing is written to
    any topic.
    """
    os.environ["RUST_BACKTRACE"] = "0"  # bad input makes polars' reader panic (caught): a line each
    from pipeline.cli.explainjson import explanation_json
    from pipeline.cli.explaintext import tell_explanation
    from pipeline.replay.archive import Recording
    from pipeline.replay.explain import explain
    from pipeline.wire.address import parse_address

    try:
        client = parse_address(address)
    except WireError as error:
        raise UsageError(error.detail) from None
    at_ms = parse_time_ms(at)
    since_ms = None if since is None else parse_time_ms(since)
    if since_ms is not None and since_ms > at_ms:
        raise UsageError("--since lies after --at")
    if at_ms > parse_time_ms("now"):
        raise UsageError("--at lies ahead")
    with ExitStack() as stack:
        if file is None:
            begin_ms = (at_ms if since_ms is None else since_ms) - LOOK_BACK_MS
            log = fetched_log(broker(), begin_ms, [region] if region else [])
            file = stack.enter_context(log)
        recording = stack.enter_context(Recording(file))
        progress = stack.enter_context(progress_line("cuts"))
        found = explain(
            recording,
            client,
            at_ms,
            traffic_class.name,
            region=region,
            since_ms=since_ms,
            progress=progress,
        )
    if json:
        emit(explanation_json(found))
    else:
        tell_explanation(found)
    _warn(found)


def _warn(found: "Explanation") -> None:
    from pipeline.cli.explaintext import cut_text

    if found.agrees is None:
        note(f"no Epoch closes cut {cut_text(found)}: whether it was published is not known")
    elif not found.agrees:
        note(
            f"the Epoch of cut {cut_text(found)} has another hash than this fold: what is said "
            "here may not be what was answered (edgesteer replay says since when)"
        )
