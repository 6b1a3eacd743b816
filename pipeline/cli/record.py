"""`edgesteer record`: a part of the log as one file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import (
    JsonOption,
    emit,
    iso,
    note,
    parse_time_ms,
    progress_line,
    run_async,
    say,
    table,
    takes_broker,
)

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.replay.manifest import Manifest


@takes_broker
def command(
    broker: "BrokerSettings",
    file: Annotated[Path, typer.Argument(help="The recording to write; appears when it is whole.")],
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="ISO 8601, now, -40s, -2h.")],
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="The same.")] = "now",
    regions: Annotated[
        str, typer.Option(metavar="NAME,...", help="Only the cells that hold these; else all.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Inputs, cuts, configurations and Epochs of a time as one file, for `edgesteer replay`.

    A recording begins with the newest snapshot before --from, or where there is none with the
    beginning of the log: the cuts from there on are in it as the lead-in. Nothing is written to the
    broker.
    """
    from pipeline.replay.recorder import record

    from_ms, to_ms = parse_time_ms(since), parse_time_ms(until)
    names = [name for name in regions.split(",") if name]
    with progress_line("records") as progress:
        manifest = run_async(record(broker, file, from_ms, to_ms, regions=names, progress=progress))
    size = file.stat().st_size
    if json:
        emit(_as_json(manifest, file, size))
    else:
        _tell(manifest, file, size)


def _as_json(manifest: "Manifest", file: Path, size: int) -> dict[str, object]:
    return {
        "file": str(file),
        "bytes": size,
        "from": iso(manifest.from_ms),
        "to": iso(manifest.to_ms),
        "code_version": manifest.code_version,
        "cuts": sum(cell.cuts - cell.lead_in for cell in manifest.cells),
        "lead_in": sum(cell.lead_in for cell in manifest.cells),
        "records": manifest.records,
        "cells": {
            cell.partition: {
                "cuts": cell.cuts - cell.lead_in,
                "lead_in": cell.lead_in,
                "snapshot_cut": cell.snapshot_cut,
                "first": iso(cell.first_at_ms),
                "last": iso(cell.last_at_ms),
            }
            for cell in manifest.cells
        },
    }


def _tell(manifest: "Manifest", file: Path, size: int) -> None:
    rows = [
        [
            cell.partition,
            cell.cuts - cell.lead_in,
            cell.lead_in,
            cell.snapshot_cut or "",
            iso(cell.first_at_ms),
            iso(cell.last_at_ms),
        ]
        for cell in manifest.cells
    ]
    table(["cell", "cuts", "lead-in", "after cut", "first", "last"], rows, right="rrrr")
    say()
    table(["topic", "records"], [[n, f"{c:,}"] for n, c in manifest.records.items()], right=" r")
    say()
    total = sum(manifest.records.values())
    say(f"{file}: {size:,} bytes, {size / total:.1f} a record")
    lead_in = sum(cell.lead_in for cell in manifest.cells)
    for cell in manifest.cells:
        if not cell.whole:
            note(
                f"cell {cell.partition}: the log's beginning is not on the broker any more; up to "
                "the next takeover a replay lacks what stood there"
            )
    if lead_in:
        note(
            f"{lead_in:,} cuts before {iso(manifest.from_ms)} are in it as the lead-in: "
            "a fold begins at a snapshot, or at the beginning of the log"
        )
