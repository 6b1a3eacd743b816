"""`edgesteer fleet`: publish the inventory that a file describes, and show what there is."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import (
    JsonOption,
    emit,
    iso,
    may_take_broker,
    note,
    run_async,
    say,
    table,
    takes_broker,
)
from pipeline.errors import BrokerUnknown

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.feeds.fleetfile import FleetFile
    from pipeline.feeds.inventory import Change, Current
    from pipeline.feeds.locate import Lines

app = typer.Typer(
    no_args_is_help=True,
    help="Publish the inventory: regions, sites, clusters, appliances, networks.",
)


@app.command()
@may_take_broker
def apply(
    broker: "Callable[[], BrokerSettings]",
    file: Annotated[Path, typer.Argument(help="TOML or JSON; docs/fleet.example.toml is one.")],
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what the file does not have.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Make the inventory on the broker what the file says. Mistakes are listed with their lines,
    and then nothing is published. --dry-run without a broker only checks the file."""
    from pipeline.feeds.fleetfile import load, resolve

    fleet, lines = load(file)
    try:
        settings = broker()
    except BrokerUnknown:
        if not dry_run:
            raise
        settings = None
    if settings is None:
        count = len(resolve(fleet, lines, str(file)))
        note("no broker, so the file was only checked")
        _summary({"checked": count}, json)
        return
    run_async(_apply(settings, file, fleet, lines, prune=prune, dry_run=dry_run, json=json))


async def _apply(
    broker: "BrokerSettings",
    file: Path,
    fleet: "FleetFile",
    lines: "Lines",
    *,
    prune: bool,
    dry_run: bool,
    json: bool,
) -> None:
    from pipeline.broker.topics import partition_count
    from pipeline.feeds.fleetfile import resolve
    from pipeline.feeds.inventory import (
        changes,
        check_apart,
        known,
        publish_changes,
        read_inventory,
    )
    from pipeline.feeds.publisher import Publisher

    current = await read_inventory(broker)
    # what --prune removes cannot be referred to
    wanted = resolve(fleet, lines, str(file), None if prune else known(current))
    check_apart(wanted, await partition_count(broker))
    todo = list(changes(current, wanted, prune=prune))
    if not dry_run and todo:
        async with Publisher(broker) as publisher:
            await publish_changes(publisher, todo)
    _show(todo, json)
    counts = Counter(change.what for change in todo if change.shown)
    same = len(wanted) - counts["added"] - counts["changed"]
    result = {"added": counts["added"], "changed": counts["changed"], "removed": counts["removed"]}
    _summary(result | {"unchanged": same, "published": not dry_run}, json)


def _show(todo: "list[Change]", json: bool) -> None:
    for change in todo:
        if not change.shown:
            continue
        if json:
            kind, _, entity = change.key.decode().partition(":")
            emit({"change": change.what, "kind": kind, "id": entity, "region": change.region})
        else:
            say(change.text())


def _summary(counts: dict[str, int | bool], json: bool) -> None:
    if json:
        emit(counts)
        return
    parts = [f"{value} {name}" for name, value in counts.items() if name != "published"]
    ending = "" if counts.get("published", True) else " (dry run: nothing was published)"
    say(", ".join(parts) + ending)


@app.command()
@takes_broker
def show(broker: "BrokerSettings", json: JsonOption = False) -> None:
    """What the inventory holds: one line for each entity, and what is out of service."""
    from pipeline.feeds.inventory import read_inventory

    current = run_async(read_inventory(broker))
    rows = []
    for region, key in sorted(current, key=lambda place: (place[1], place[0])):
        if current[region, key].name == "Drain":
            continue
        kind, _, entity = key.decode(errors="replace").partition(":")
        fields = current[region, key].fields
        place = {name: fields[name] for name in ("site", "cluster") if fields.get(name)}
        place.pop(kind, None)
        if json:
            emit({"kind": kind, "id": entity, "region": region, **place})
        rows.append((kind, entity, region, " ".join(place.values())))
    if not json:
        table(("KIND", "ID", "REGION", "AT"), rows)
    _show_drains(current, json)


def _show_drains(current: "Current", json: bool) -> None:
    """What is out of service, or on its way there or back."""
    from pipeline.feeds.drains import standing

    now_ms, rows = time.time_ns() // 1_000_000, []
    for one in standing(current):
        state, target = one.words(now_ms), one.target
        if state == "in service":
            continue
        asked, deadline = iso(one.at_ms), iso(one.deadline_ms)
        if json:
            place = {"id": f"{target.scope}:{target.entity}", "region": target.region}
            emit({"kind": "drain", **place, "state": state, "asked": asked, "deadline": deadline})
        rows.append((f"{target.scope} {target.entity}", target.region, state, asked, deadline))
    if rows and not json:
        say()
        table(("DRAINED", "REGION", "STATE", "ASKED", "DEADLINE"), rows)
