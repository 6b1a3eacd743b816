"""`edgesteer weights`: how each site spreads its load over its appliances."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import JsonOption, asks_broker, emit, note, run_async, table

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings


@asks_broker
def command(
    broker: "BrokerSettings",
    site: Annotated[str | None, typer.Argument(help="Only this site.")] = None,
    json: JsonOption = False,
) -> None:
    """The weights of each site's appliances; status 1 when there is no such site.

    With --json, `weights` are ten-thousandths of the site's load.
    """
    from pipeline.cli.answers import percent, weights_json
    from pipeline.follow.follower import snapshot
    from pipeline.follow.lookup import appliance_weights
    from pipeline.wire.decode import decode
    from schemas.registry import LB_WEIGHTS

    held = run_async(snapshot(broker, [LB_WEIGHTS.name]))
    rows = []
    found = False
    for partition, key, value in held.items(LB_WEIGHTS.name):
        name = key.decode(errors="replace")
        if site is not None and name != site:
            continue
        found = True
        cut, parts = held.cell(partition).cut, appliance_weights(value)
        if json:
            emit(weights_json(name, decode(value)[1]["region"], partition, cut, parts))
            continue
        label = [name, str(cut)]
        for one in parts:
            rows.append([*label, one.appliance, percent(one.weight), one.state, one.reason])
            label = ["", ""]
    if not found:
        note("no site has weights yet" if site is None else f"no site {site!r} has weights")
        raise typer.Exit(1)
    if not json:
        table(["site", "cut", "appliance", "weight", "state", "reason"], rows, right=" r r")
