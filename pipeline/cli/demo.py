"""`edgesteer demo`: the whole plane on a simulated fleet, in this terminal."""

import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from pipeline.cli.common import (
    JsonOption,
    emit,
    note,
    parse_duration_ms,
    quiet_clients,
    run_async,
    say,
)
from pipeline.errors import UsageError

HINT = "In a second terminal: edgesteer who 203.0.113.7 --why, edgesteer weights, edgesteer --help"


def command(
    last: Annotated[
        str | None, typer.Option("--for", metavar="60s", help="Once it runs; unset: until Ctrl-C.")
    ] = None,
    broker: Annotated[
        str, typer.Option(help="embedded, or kafka: Apache Kafka, where Java 17 is.")
    ] = "embedded",
    workers: Annotated[int, typer.Option(min=1, max=16)] = 2,
    partitions: Annotated[int, typer.Option(min=1, max=256, help="Number of cells.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same fleet.")] = 1,
    rate: Annotated[int, typer.Option(min=10, help="Play events a second.")] = 2_000,
    prefixes: Annotated[int, typer.Option(min=200)] = 20_000,
    dirt: Annotated[
        float, typer.Option(min=0, max=1, help="Bad records for each good one, of every kind.")
    ] = 0.0,
    follow: Annotated[
        bool, typer.Option(help="Viewers go where the published tables say (costs CPU).")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show everything at work: a broker, its topics, workers, and a fleet of 40 sites and 400
    appliances in 3 regions that reports to them. Ends what it started, and only that; status 0
    when every record is accounted for and nothing died."""
    from pipeline.cli.live import LiveView, PlainView
    from pipeline.demo.run import DemoOptions, run_demo

    if broker not in ("embedded", "kafka"):
        raise UsageError(f"--broker {broker}: the demo brings its own: embedded or kafka")
    quiet_clients()
    sim_args: tuple[str, ...] = ("--seed", str(seed), "--rate", str(rate))
    sim_args += (
        "--prefixes",
        str(prefixes),
        "--dirt",
        str(dirt),
        *(["--follow"] if follow else []),
    )
    options = DemoOptions(
        broker="kafka" if broker == "kafka" else "embedded",
        seconds=parse_duration_ms(last) / 1000 if last else None,
        workers=workers,
        partitions=partitions,
        sim_args=sim_args,
    )
    live = LiveView(hint=HINT) if sys.stderr.isatty() and not json else None
    view = live or PlainView(hint=HINT, tell=note if json else say)
    with live or nullcontext():
        outcome = run_async(run_demo(options, view))
    if json:
        emit(outcome.summary)
    else:
        _say_summary(outcome.summary)
    for problem in outcome.problems:
        note(f"problem: {problem}")
    raise typer.Exit(1 if outcome.problems else 0)


def _say_summary(summary: dict[str, object]) -> None:
    say("")
    for name in ("cuts", "events", "folded", "dead_letters", "unaccounted"):
        say(f"{name.replace('_', ' '):<13}{summary[name]:>12,}")
    epochs = summary["epochs"]
    assert isinstance(epochs, dict)
    filled = {cell: epoch for cell, epoch in epochs.items() if int(epoch["hash"], 16)}
    for cell, epoch in filled.items():
        say(f"cell {cell:<8}{epoch['cut']:>12,} cuts, table hash {epoch['hash']}")
    if len(filled) < len(epochs):
        say(f"{len(epochs) - len(filled)} more cells have no region: their tables are empty")
