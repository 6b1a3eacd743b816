"""`edgesteer sim`: run the simulated fleet, and break things in it."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import (
    JsonOption,
    emit,
    note,
    parse_duration_ms,
    run_async,
    say,
    takes_broker,
)
from pipeline.cli.score import command as score

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.sim.run import RunOptions, Summary

app = typer.Typer(no_args_is_help=True, help="Run the simulated fleet, and break things in it.")
app.command("score")(score)

EntityArgument = Annotated[
    str, typer.Argument(metavar="APPLIANCE|SITE", help="A site means all its appliances.")
]


@app.command()
@takes_broker
def run(
    broker: "BrokerSettings",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same world.")] = 1,
    regions: Annotated[int, typer.Option(min=1)] = 3,
    sites: Annotated[int, typer.Option(min=4)] = 40,
    appliances: Annotated[int, typer.Option(min=4)] = 400,
    prefixes: Annotated[int, typer.Option(min=200)] = 20_000,
    rate: Annotated[int, typer.Option(min=10, help="Play events a second.")] = 2_000,
    churn: Annotated[float, typer.Option(min=0, help="BGP changes a second.")] = 2.0,
    heard_at: Annotated[
        int, typer.Option(min=0, help="Sites that hear of a prefix, at most; 0: no limit.")
    ] = 0,
    last: Annotated[
        str | None, typer.Option("--for", metavar="60s", help="Unset: until it is stopped.")
    ] = None,
    dirt: Annotated[
        float, typer.Option(min=0, max=1, help="Bad records of every kind for each good one.")
    ] = 0.0,
    follow: Annotated[
        bool, typer.Option(help="Viewers go where the published table says: the loop is closed.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Publish a whole simulated fleet: inventory and routes first, then what it reports, live.

    Ends on Ctrl-C, SIGTERM or after --for with the number of records produced per topic.
    """
    from pipeline.sim.run import RunOptions
    from pipeline.sim.size import SimSize

    size = SimSize(regions, sites, appliances, prefixes, rate, churn, heard_at=heard_at)
    duration_ms = parse_duration_ms(last) if last else None
    run_async(_run(broker, RunOptions(seed, size, duration_ms, dirt, follow), json))


async def _run(broker: "BrokerSettings", options: "RunOptions", json: bool) -> None:
    from pipeline.sim.run import Simulation, stopped_by_signals

    simulation = Simulation(broker, options, note)
    try:
        async with stopped_by_signals(simulation.stop):
            await simulation.run()
    finally:  # true also when the broker went away
        _summary(simulation.summary, json)


def _summary(summary: "Summary", json: bool) -> None:
    if json:
        emit(summary.as_json())
        return
    for topic, count in sorted(summary.produced.items()):
        say(f"{topic:<18} {count:>12,} records")
    if summary.dirt:
        say(f"of which bad ones  {summary.dirt.total():>12,} of {len(summary.dirt)} kinds")


def _command(broker: "BrokerSettings", action: str, done: str, entity: str, json: bool) -> None:
    import time

    from pipeline.sim.control import entities, send

    fleet = run_async(entities(broker))
    mine = fleet.get(entity) or [
        name for names in fleet.values() for name in names if name == entity
    ]
    if not mine:
        note(_no_such(entity, fleet))
        raise typer.Exit(1)
    at_ms = time.time_ns() // 1_000_000
    run_async(send(broker, action, entity, at_ms))
    if json:
        emit({"action": action, "entity": entity, "appliances": mine, "at_ms": at_ms})
        return
    what = f"{entity} ({len(mine)} appliances)" if entity in fleet else entity
    say(f"{what} {done}. See `edgesteer verdicts` for what the plane makes of it.")


def _no_such(entity: str, fleet: dict[str, list[str]]) -> str:
    from difflib import get_close_matches

    if not fleet:
        return "the inventory is empty: no simulation has run on this broker yet"
    names = [*fleet, *(name for names in fleet.values() for name in names)]
    close = get_close_matches(entity, names, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there is {names[0]}, for one"
    return f"the inventory has no appliance and no site {entity!r}; {hint}"


@app.command()
@takes_broker
def fail(broker: "BrokerSettings", entity: EntityArgument, json: JsonOption = False) -> None:
    """It breaks: reports FAILED at once, and its viewers fail over."""
    _command(broker, "FAIL", "was told to fail", entity, json)


@app.command()
@takes_broker
def drain(broker: "BrokerSettings", entity: EntityArgument, json: JsonOption = False) -> None:
    """It reports DRAINING: takes no new viewers, keeps those it has. (An operator takes a site out
    of service with `edgesteer drain`; no appliance is told of that.)"""
    _command(broker, "DRAIN", "was told to drain", entity, json)


@app.command()
@takes_broker
def fill(broker: "BrokerSettings", entity: EntityArgument, json: JsonOption = False) -> None:
    """It fetches new content: reports FILLING and takes part of its usual load."""
    _command(broker, "FILL", "was told to fill", entity, json)


@app.command()
@takes_broker
def recover(broker: "BrokerSettings", entity: EntityArgument, json: JsonOption = False) -> None:
    """It is well again: reports OK."""
    _command(broker, "RECOVER", "was told to recover", entity, json)
