"""`edgesteer bench NAME`: measure one thing, beside what others reach in the same run."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.common import JsonOption, emit, note, quiet_clients, run_async, say, table


class Bench(StrEnum):
    TABLE = "table"
    FAILOVER = "failover"
    INGEST = "ingest"
    REPLAY = "replay"
    RECOVERY = "recovery"
    SNAPSHOT = "snapshot"
    ASSIGN = "assign"
    STEP = "step"
    FLEET = "fleet"


def command(
    name: Annotated[
        Bench,
        typer.Argument(
            metavar="NAME",
            help="table, failover, ingest, replay, recovery, snapshot, assign, step or fleet.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="table: the folder that holds routes/. Unset: EDGESTEER_DATA."),
    ] = None,
    events: Annotated[
        int | None, typer.Option(min=1_000_000, help="ingest: so many play events.")
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(min=1, help="failover: so many failures each. recovery: so many kills."),
    ] = None,
    seconds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="replay: so much recorded time (unset: an hour). snapshot: so long on each worker "
            "(unset: two minutes). step: of the steady state (unset: three minutes). fleet: of "
            "each cell (unset: one minute).",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure, and print the figure, the machine and the ratios to what it is held against.

    Each starts what it needs (a broker of Apache Kafka, a worker, the peers in virtual environments
    of their own) and ends it again; none talks to a broker that is there. Takes minutes.
    """
    quiet_clients()
    found = _measure(name, data, events, runs, seconds)
    if json:
        emit(found)
    else:
        _show(found)


def _measure(
    name: Bench, data: Path | None, events: int | None, runs: int | None, seconds: int | None
) -> dict[str, Any]:
    found: dict[str, Any]
    if name is Bench.TABLE:
        from pipeline.bench import common
        from pipeline.bench import table as build

        found = build.run(data)
        found["detail"]["machine"] = common.machine()
    elif name is Bench.ASSIGN:
        from pipeline.bench import assign

        found = assign.run()
    elif name is Bench.STEP:
        from pipeline.bench import step

        found = step.run(note, seconds or step.SECONDS)
    elif name is Bench.FLEET:
        from pipeline.bench import fleet

        found = fleet.run(note, seconds or fleet.SECONDS)
    elif name is Bench.INGEST:
        from pipeline.bench import ingest

        found = run_async(ingest.run(note, events or ingest.EVENTS))
    elif name is Bench.REPLAY:
        from pipeline.bench import common, replay

        found = replay.run(note, seconds or replay.SECONDS)
        found["detail"]["machine"] = common.machine()
    elif name is Bench.RECOVERY:
        from pipeline.bench import recovery

        found = run_async(recovery.run(note, runs or recovery.KILLS))
    elif name is Bench.SNAPSHOT:
        from pipeline.bench import snapshot

        found = snapshot.run(note, seconds=seconds or snapshot.SECONDS)
    else:
        from pipeline.bench import failover

        found = run_async(failover.run(note, runs or failover.RUNS))
    return found


def _show(found: dict[str, Any]) -> None:
    say(f"{found['name']}: {_number(found['value'])} {found['unit']}")
    if found["ratios"]:
        say()
        rows = [(peer, f"{ratio:.2f}") for peer, ratio in found["ratios"].items()]
        table(("beside", "ratio"), rows, "lr")
    say()
    table(("detail", "value"), list(_flat("", found["detail"])), "lr")


def _flat(prefix: str, value: object) -> list[tuple[str, str]]:
    if not isinstance(value, dict):
        return [(prefix, _number(value))]
    return [row for name, one in value.items() for row in _flat(f"{prefix} {name}".strip(), one)]


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
