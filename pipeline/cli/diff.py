"""`edgesteer diff`: what changed between two moments, recordings, settings or code versions."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.common import (
    FindBroker,
    JsonOption,
    may_take_broker,
    parse_time_ms,
    progress_line,
)
from pipeline.cli.logfile import fetched_log
from pipeline.cli.shown import HtmlOption, TopOption, show
from pipeline.errors import UsageError

#: So much before the first moment asked for, so that a cut lies in between.
MARGIN_MS = 60_000
OPERAND = "FILE|FILE@TIME|@TIME"


@may_take_broker
def command(
    broker: FindBroker,
    a: Annotated[str, typer.Argument(metavar=f"A: {OPERAND}", help="From.")],
    b: Annotated[str, typer.Argument(metavar=f"B: {OPERAND}", help="To.")],
    set_b: Annotated[
        list[str] | None,
        typer.Option("--set-b", metavar="KEY=VALUE", help="Fold B under another setting."),
    ] = None,
    html: HtmlOption = None,
    top: TopOption = 20,
    json: JsonOption = False,
) -> None:
    """What changed from A to B: traffic that moved between sites, overloads made and cured, what
    nobody serves, sites, appliances and prefixes; the largest traffic first.

    FILE is a recording (its last moment) or a view that `replay --save` wrote, perhaps by another
    version. TIME is ISO 8601, or before the end of the recording, as in demo.rec@-40s. @TIME alone
    is that moment of the broker's log. Moved is the traffic of B, placed as A would have placed it.
    """
    os.environ["RUST_BACKTRACE"] = "0"  # bad input makes polars' reader panic (caught): a line each
    from pipeline.replay.changes import Settings
    from pipeline.replay.diff import diff
    from pipeline.replay.operands import Operand, views_of

    settings = Settings(set_b) if set_b else None
    one, other = Operand.of(a), Operand.of(b)
    with ExitStack() as stack:
        fetched: Path | None = None
        if times := [each.time for each in (one, other) if each.path is None]:
            since_ms = min(map(parse_time_ms, times)) - MARGIN_MS
            fetched = stack.enter_context(fetched_log(broker(), since_ms))
        elif broker.named:
            raise UsageError("A and B are files: leave the broker's options out, or write @TIME")
        with progress_line("cuts") as progress:
            views = views_of(one, other, fetched, settings, parse_time_ms, progress)
    show(diff(*views), top, html, json=json)
